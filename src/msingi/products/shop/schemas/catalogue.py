"""What goes over the wire of the catalogue: forms come in, views go out."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from msingi.kit.db import Form, View
from msingi.kit.money import Money
from msingi.products.shop.models.catalogue import Availability, Option, Picture, Words


def trimmed(most: int, example: str) -> Meta:
    """Text with something in it, and no longer than this without the blanks at both ends."""
    said = f"1 to {most} characters, not counting blanks at both ends"
    return Meta(min_length=1, pattern=rf"^\s*\S([\s\S]{{0,{most - 2}}}\S)?\s*$", description=said, examples=[example])


Id = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
Slug = Annotated[str, Meta(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80, examples=["kericho-gold-tea"])]
Sku = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$", examples=["TEA-250"])]
Title = Annotated[str, trimmed(200, "Kericho Gold tea")]
OtherTitle = Annotated[str, Meta(max_length=200)]
Text = Annotated[str, Meta(max_length=20_000)]
Name = Annotated[str, trimmed(100, "Drinks")]
OtherName = Annotated[str, Meta(max_length=100)]
Label = Annotated[str, trimmed(60, "organic")]
Key = Annotated[str, Meta(pattern="^(?!brand$|tag$)[a-z][a-z0-9_]{0,29}$", examples=["colour"])]
Price = Annotated[int, Meta(ge=0, le=10**12, description="in minor units; 0: not sold in it", examples=[12000])]
CurrencyCode = Annotated[str, Meta(pattern="^[A-Z]{3}$", examples=["KES"])]
Prices = Annotated[dict[CurrencyCode, Price], Meta(max_length=8)]
Weight = Annotated[int, Meta(ge=0, le=10_000_000, description="in grams")]
Position = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
Tags = Annotated[list[Label], Meta(max_length=20)]
Attributes = Annotated[dict[Key, Label], Meta(max_length=20)]
Chosen = Annotated[dict[Label, Label], Meta(max_length=5)]
TaxClass = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,29}$", examples=["standard"])]
FileName = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\.[a-z0-9]{2,4}$")]
Barcode = Annotated[str, Meta(pattern="^[0-9A-Za-z-]{0,32}$")]


# ---- forms


class TitleForm(Form):
    en: Title
    sw: OtherTitle = ""


class NameForm(Form):
    en: Name
    sw: OtherName = ""


class TextForm(Form):
    en: Text = ""
    sw: Text = ""


class OptionForm(Form):
    """What variants differ in."""

    name: Label
    values: Annotated[list[Label], Meta(min_length=1, max_length=100)]


class AltForm(Form):
    en: OtherTitle = ""
    sw: OtherTitle = ""


class PictureForm(Form):
    """A picture that was sent in, by its `file`, and what it shows in words."""

    file: FileName
    alt: AltForm


class NewVariant(Form):
    sku: Sku
    id: Id | UnsetType = UNSET
    options: Chosen = {}
    prices: Prices = {}
    compare_at: Prices = {}
    weight: Weight = 0
    barcode: Barcode = ""
    tracked: bool = True


Pictures = Annotated[list[PictureForm], Meta(max_length=20)]


class VariantPatch(Form):
    sku: Sku | UnsetType = UNSET
    options: Chosen | UnsetType = UNSET
    prices: Prices | UnsetType = UNSET
    compare_at: Prices | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    barcode: Barcode | UnsetType = UNSET
    tracked: bool | UnsetType = UNSET


class NewProduct(Form):
    title: TitleForm
    slug: Slug | UnsetType = UNSET
    description: TextForm | UnsetType = UNSET
    category_id: Id | None = None
    brand: OtherName = ""
    tags: Tags = []
    attributes: Attributes = {}
    options: Annotated[list[OptionForm], Meta(max_length=5)] = []
    variants: Annotated[list[NewVariant], Meta(max_length=100)] = []
    pictures: Pictures | UnsetType = UNSET
    tax_class: TaxClass = "standard"


class ProductPatch(Form):
    title: TitleForm | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    description: TextForm | UnsetType = UNSET
    category_id: Id | UnsetType | None = UNSET
    brand: OtherName | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    attributes: Attributes | UnsetType = UNSET
    options: Annotated[list[OptionForm], Meta(max_length=5)] | UnsetType = UNSET
    variants: Annotated[list[NewVariant], Meta(max_length=100)] | UnsetType = UNSET
    pictures: Pictures | UnsetType = UNSET
    tax_class: TaxClass | UnsetType = UNSET


class NewCategory(Form):
    name: NameForm
    slug: Slug | UnsetType = UNSET
    parent_id: Id | None = None
    position: Position = 0


class CategoryPatch(Form):
    name: NameForm | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    parent_id: Id | UnsetType | None = UNSET
    position: Position | UnsetType = UNSET


class SynonymForm(Form):
    """Single words that mean the same, in whatever language."""

    words: Annotated[list[Label], Meta(min_length=2, max_length=8, examples=[["tea", "chai"]])]


# ---- views


class Kept(View):
    """What everything stored shows."""

    created_at: datetime
    updated_at: datetime
    version: int


class ProductCard(View):
    """A product in a list. `price` is the lowest of its variants', and `from_price` says that others cost more."""

    id: str
    slug: str
    title: Words
    brand: str
    category_id: str | None
    tags: list[str]
    picture: Picture | None
    price: Money
    compare_at: Money | None
    from_price: bool
    variants: int


class VariantView(View):
    """`price` is null where it is not sold in the currency that was asked for."""

    id: str
    sku: str
    options: dict[str, str]
    price: Money | None
    compare_at: Money | None
    weight: int
    barcode: str
    tracked: bool


class ProductView(Kept):
    """A product's page, as buyers see it."""

    id: str
    slug: str
    title: Words
    description: Words
    category_id: str | None
    category_ids: list[str]
    brand: str
    tags: list[str]
    attributes: dict[str, str]
    options: list[Option]
    pictures: list[Picture]
    tax_class: str
    price: Money | None
    variants: list[VariantView]


class ManagedVariant(View):
    id: str
    sku: str
    options: dict[str, str]
    prices: dict[str, int]
    compare_at: dict[str, int]
    weight: int
    barcode: str
    tracked: bool


class ManagedProduct(Kept):
    """A product as those see it who look after it."""

    id: str
    slug: str
    title: Words
    description: Words
    availability: Availability
    category_id: str | None
    category_ids: list[str]
    brand: str
    tags: list[str]
    attributes: dict[str, str]
    options: list[Option]
    pictures: list[Picture]
    tax_class: str
    sold: int
    variants: list[ManagedVariant]


class CategoryView(Kept):
    id: str
    slug: str
    name: Words
    parent_id: str | None
    path: list[str]
    position: int


class CategoriesView(View):
    """The whole tree, parents before children, each level in its order."""

    items: list[CategoryView]


class SynonymView(Kept):
    id: str
    words: list[str]


class Count(View):
    value: str
    count: int


class PriceRange(View):
    lowest: Money | None
    highest: Money | None


class FacetsView(View):
    """How many of the goods that were found have what. Not `complete`: only the newest `counted` were looked at."""

    counted: int
    complete: bool
    brands: list[Count]
    tags: list[Count]
    categories: list[Count]
    attributes: dict[str, list[Count]]
    price: PriceRange


class RowFault(View):
    """What is wrong with a row of an import; the heading is row 1."""

    row: int
    column: str
    message: str


class ImportView(View):
    """What an import did, or would do. With errors nothing is written at all."""

    dry_run: bool
    rows: int
    created: int
    updated: int
    unchanged: int
    errors: list[RowFault]
