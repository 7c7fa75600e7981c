"""What the shop is made of."""

from pathlib import Path

from msingi.kit.live import Key, Topic
from msingi.kit.payments import models as payments
from msingi.kit.product import Product
from msingi.kit.webhooks import models as webhooks
from msingi.products.shop import jobs, seeds
from msingi.products.shop.models import STORES
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.pages import page_routes
from msingi.products.shop.queries import orders, reports, verifying
from msingi.products.shop.routes import routes
from msingi.products.shop.seeds_of_goods import plant_many

STAFF = ["shop:read"]
WAREHOUSE = [*STAFF, "shop:stock", "shop:fulfil"]
SUPPORT = [*STAFF, "shop:orders", "shop:refund"]
MANAGER = [*WAREHOUSE, "shop:orders", "shop:refund", "shop:catalogue", "shop:pricing", "shop:reports", "shop:webhooks"]
OWNER = [*MANAGER, "shop:approve"]

product = Product(
    name="shop",
    title="Shop",
    summary="Goods, carts, orders and money: stock that is never oversold, payments that are never lost.",
    routes=routes,
    root_routes=page_routes,
    stores=[*STORES, *payments.stores("shop"), *webhooks.stores("shop")],
    work=jobs.MODULES,
    topics=[
        Topic("shop/orders/{id}", see=orders.may_follow, key=Key("X-Order-Token", orders.opens)),
        Topic("shop/board", see=orders.may_follow_all),
        Topic("shop/sheets/{id}", see=reports.may_follow),
    ],
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
    desk=("/shop/admin", STAFF[0]),
    tokens=["X-Cart-Token", "X-Order-Token"],
    folder=Path(__file__).parent,
)
