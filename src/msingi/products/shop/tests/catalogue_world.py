"""The shop's goods alone, for tests of the catalogue: its own routes and nothing but the small world's goods."""

from msingi.kit.product import Product
from msingi.products.shop.models.catalogue import categories, products, synonyms
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.product import product
from msingi.products.shop.routes import catalogue
from msingi.products.shop.seeds_of_goods import plant_goods

catalogue_alone = Product(
    name="shop",
    title="Shop",
    summary="Its goods.",
    routes=catalogue.routes,
    stores=[products, categories, synonyms],
    plant=plant_goods,
    grants=product.grants,
    settings=ShopSettings,
)
