"""What is sold. A product carries its variants, so that its page is one document.

Some of its fields are there for lists alone: `shelves` says where a published one stands (each currency it is sold in,
alone and with each of its categories: `KES`, `KES/drinks`), `terms` by what it is found, `rank` how well it sells. An
index can hold only one of two arrays, so a list walks one of them in order and asks the other by id
(queries/search.py). What `sold` counts stands in no index, since each sale changes it; `rank` follows it some minutes
later, many sales in one write.
"""

from typing import Literal

from msgspec import Struct

from msingi.kit.db import Collection, Doc, Index

Availability = Literal["draft", "published", "archived"]

# What prices may be kept in; each has an index of its own, which holds nothing but the goods sold in it.
CURRENCIES = ("KES", "TZS", "UGX", "RWF", "ETB", "USD", "EUR", "GBP")


class Words(Struct, frozen=True):
    """A text in the house's languages; Swahili may be missing, English may not."""

    en: str
    sw: str = ""

    def said_in(self, language: str) -> str:
        """In a language, else in English."""
        return (self.sw if language == "sw" else "") or self.en


class Category(Doc):
    """A place in the tree of goods; `path` holds the ids from the root to its parent."""

    slug: str
    name: Words
    parent_id: str | None = None
    path: list[str] = []
    position: int = 0
    uses: int = 0  # raised by each product that comes here, so that it and a move of the category conflict


class Option(Struct, frozen=True):
    """What variants differ in: `size`, of `["S", "M", "L"]`."""

    name: str
    values: list[str]


class Picture(Struct, frozen=True):
    """A picture of kit.files by its content's hash, and what it shows."""

    file: str
    alt: Words
    width: int = 0
    height: int = 0


class Variant(Struct, kw_only=True):
    """What a buyer puts into a cart. `prices` are minor units by currency; without one it is not sold in it."""

    id: str
    sku: str
    options: dict[str, str] = {}
    prices: dict[str, int] = {}
    compare_at: dict[str, int] = {}  # what it used to cost, to be shown struck through
    weight: int = 0  # grams
    barcode: str = ""
    tracked: bool = True  # False: never runs out (a service, a download)


class Product(Doc):
    slug: str
    title: Words
    description: Words = Words(en="")
    availability: Availability = "draft"
    category_ids: list[str] = []  # its own and all above it, from the root on
    category_id: str | None = None
    brand: str = ""
    tags: list[str] = []
    attributes: dict[str, str] = {}  # `{"colour": "red"}`
    options: list[Option] = []
    variants: list[Variant] = []
    pictures: list[Picture] = []
    tax_class: str = "standard"
    sold: int = 0  # how many of it were ever sold; counts no version
    rank: int = 0  # what `sold` was some minutes ago, to sort by
    outsold: bool = False  # whether `sold` has changed since then
    lowest: dict[str, int] = {}  # the lowest price by currency, to sort and filter by
    shelves: list[str] = []  # see above; none unless it is published
    terms: list[str] = []  # folded words, and `brand:…`, `tag:…`, `colour:…`
    title_terms: list[str] = []  # the folded words of the title, in all languages
    title_key: str = ""  # to sort by


class Synonym(Doc):
    """Words that mean the same to whoever searches, folded."""

    words: list[str]


def tags_of(product: Product) -> list[str]:
    """What a write to a product makes stale: its page and, where it stands on a shelf, the lists that it is in."""
    lists = ["shelf", *(f"shelf:{each}" for each in product.category_ids)] if product.shelves else []
    return [f"product:{product.id}", f"slug:{product.slug}", *lists]


BY_ID = Index("shelves -_id")
BY_RANK = Index("shelves -rank -_id")
BY_TITLE = Index("shelves title_key _id")
BY_TERM = Index("terms -_id")
BY_PRICE = {
    currency: Index(f"shelves lowest.{currency} _id", where={f"lowest.{currency}": {"$exists": True}})
    for currency in CURRENCIES
}
TERM_BY_RANK = Index("terms -rank -_id")
TERM_BY_PRICE = {
    currency: Index(f"terms lowest.{currency} _id", where={f"lowest.{currency}": {"$exists": True}})
    for currency in CURRENCIES
}
BY_TITLE_TERM = Index("title_terms -_id")
# What goods can be sorted by, by id: those that were found in another way are put in order without being read.
SORTED_BY = Index(" ".join(["_id", "rank", "title_key", *(f"lowest.{each}" for each in CURRENCIES)]))
OUTSOLD = Index("outsold", where={"outsold": True})

products = Collection(
    Product,
    "products",
    indexes=[
        Index("slug", unique=True),
        Index("variants.sku", unique=True, where={"variants.sku": {"$exists": True}}),
        Index("variants.id", unique=True, where={"variants.id": {"$exists": True}}),
        "availability -_id",
        "category_id -_id",
        "pictures.file",
        BY_ID,
        BY_RANK,
        BY_TITLE,
        BY_TERM,
        BY_TITLE_TERM,
        TERM_BY_RANK,
        SORTED_BY,
        OUTSOLD,
        *BY_PRICE.values(),
        *TERM_BY_PRICE.values(),
    ],
    tags=tags_of,
)
categories = Collection(
    Category, "categories", indexes=[Index("slug", unique=True), "parent_id position"], tags=lambda _: ["categories"]
)
synonyms = Collection(Synonym, "synonyms", indexes=["words"])
