"""What the shop is made of."""

from pathlib import Path

from msingi.kit.live import Topic
from msingi.kit.payments import models as payments
from msingi.kit.product import Product
from msingi.products.shop import jobs, seeds
from msingi.products.shop.models import STORES
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries import orders, verifying
from msingi.products.shop.routes import routes
from msingi.products.shop.seeds_of_goods import plant_many

STAFF = ["shop:read"]
WAREHOUSE = [*STAFF, "shop:stock", "shop:fulfil"]
SUPPORT = [*STAFF, "shop:orders", "shop:refund"]
MANAGER = [*WAREHOUSE, "shop:orders", "shop:refund", "shop:catalogue", "shop:pricing", "shop:reports"]
OWNER = [*MANAGER, "shop:approve"]

product = Product(
    name="shop",
    title="Shop",
    summary="Goods, carts, orders and money: stock that is never oversold, payments that are never lost.",
    routes=routes,
    stores=[*STORES, *payments.stores("shop")],
    work=jobs.MODULES,
    topics=[Topic("shop/orders/{id}", see=orders.may_follow), Topic("shop/board", see=orders.may_follow_all)],
    plant=seeds.plant,
    grow=plant_many,
    verify=verifying.verify,
    exports=orders.person,
    grants={
        "shop_warehouse": WAREHOUSE,
        "shop_support": SUPPORT,
        "shop_manager": MANAGER,
        "shop_owner": OWNER,
        "admin": OWNER,
    },
    settings=ShopSettings,
    tokens=["X-Cart-Token", "X-Order-Token"],
    folder=Path(__file__).parent,
)
