"""Goods as rows of a table: a row a variant, the product's own columns on the first of its rows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from msgspec import Struct, field

from msingi.kit.money import decimals
from msingi.products.shop.models.catalogue import CURRENCIES, Product, Variant

OF_PRODUCT = (
    *("slug", "title_en", "title_sw", "description_en", "description_sw", "category", "brand", "tags", "attributes"),
    *("tax_class", "availability"),
)
OF_VARIANT = ("sku", "options", "weight", "barcode", "tracked")
OF_MONEY = re.compile(r"(price|compare_at) ([A-Z]{3})")
YES, NO = ("yes", "true", "1", "ndiyo"), ("no", "false", "0", "hapana")
HIGHEST = 10**12
Cells = Mapping[str, str]


class Fault(NamedTuple):
    """What is wrong with a row."""

    row: int
    column: str
    message: str


class GivenVariant(Struct):
    """What a row says of a variant, as far as it has columns for it. An empty price is none."""

    row: int
    sku: str
    values: dict[str, Any]
    prices: dict[str, dict[str, int | None]]


class Given(Struct):
    """What the rows say of a product, as far as there are columns for it."""

    row: int
    slug: str
    values: dict[str, Any]
    variants: list[GivenVariant] = field(default_factory=list)


# ---- reading


def unknown_columns(names: Iterable[str]) -> list[str]:
    """Those that no goods have."""
    return [name for name in names if name not in OF_PRODUCT and name not in OF_VARIANT and not _is_money(name)]


def _is_money(name: str) -> bool:
    read = OF_MONEY.fullmatch(name)
    return read is not None and read[2] in CURRENCIES


def grouped(rows: Iterable[tuple[int, Cells]]) -> tuple[list[Given], list[Fault]]:
    """The products that rows speak of, by slug, and what is wrong with the rows by themselves."""
    found: dict[str, Given] = {}
    first: dict[str, Cells] = {}
    faults: list[Fault] = []
    skus: dict[str, int] = {}
    for row, cells in rows:
        slug, sku = cells.get("slug", "").strip(), cells.get("sku", "").strip()
        if not slug:
            faults.append(Fault(row, "slug", "This is required"))
            continue
        if slug not in found:
            found[slug], first[slug] = Given(row, slug, _product(row, cells, faults)), cells
        else:
            faults += _contradictions(row, cells, first[slug])
        if sku and sku in skus:
            faults.append(Fault(row, "sku", f"Row {skus[sku]} has the same"))
        elif sku:
            skus[sku] = row
            found[slug].variants.append(_variant(row, sku, cells, faults))
        elif any(cells.get(name, "").strip() for name in cells if name in OF_VARIANT or _is_money(name)):
            faults.append(Fault(row, "sku", "A variant needs one"))
    return list(found.values()), faults


def _contradictions(row: int, cells: Cells, first: Cells) -> list[Fault]:
    return [
        Fault(row, name, "The first row of this product says something else")
        for name in OF_PRODUCT
        if cells.get(name, "").strip() not in ("", first.get(name, "").strip())
    ]


def _product(row: int, cells: Cells, faults: list[Fault]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in OF_PRODUCT[1:]:
        if name not in cells:
            continue
        text = cells[name].strip()
        if name == "tags":
            values[name] = listed(text)
        elif name == "attributes":
            values[name] = _pairs(row, name, text, faults)
        elif text or name not in ("tax_class", "availability"):  # of these two an empty cell says nothing
            values[name] = text
    return values


def _variant(row: int, sku: str, cells: Cells, faults: list[Fault]) -> GivenVariant:
    values: dict[str, Any] = {}
    if "options" in cells:
        values["options"] = _pairs(row, "options", cells["options"], faults)
    if "barcode" in cells:
        values["barcode"] = cells["barcode"].strip()
    weight, tracked = cells.get("weight", "").strip(), cells.get("tracked", "").strip().lower()
    if weight:
        values["weight"] = _grams(row, weight, faults)
    if tracked in YES or tracked in NO:
        values["tracked"] = tracked in YES
    elif tracked:
        faults.append(Fault(row, "tracked", "Say yes or no"))
    return GivenVariant(row, sku, values, _prices(row, cells, faults))


def _prices(row: int, cells: Cells, faults: list[Fault]) -> dict[str, dict[str, int | None]]:
    found: dict[str, dict[str, int | None]] = {"price": {}, "compare_at": {}}
    for name in cells:
        read = OF_MONEY.fullmatch(name)
        if read is None or read[2] not in CURRENCIES:
            continue
        try:
            found[read[1]][read[2]] = minor(cells[name], read[2])
        except ValueError as fault:
            faults.append(Fault(row, name, str(fault)))
    return found


def _grams(row: int, text: str, faults: list[Fault]) -> int:
    if text.isascii() and text.isdigit() and len(text) < 12:
        return int(text)
    faults.append(Fault(row, "weight", "A whole number of grams"))
    return 0


def minor(text: str, currency: str) -> int | None:
    """An amount as people write it, `1,299.50`, in minor units; None for nothing. Raises ValueError."""
    plain = text.strip().replace(",", "").replace(" ", "")
    if not plain:
        return None
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", plain):
        raise ValueError("An amount such as 1299.50")
    try:
        amount = Decimal(plain).scaleb(decimals(currency))
    except InvalidOperation:
        raise ValueError("An amount such as 1299.50") from None
    if amount != int(amount):
        raise ValueError(f"{currency} has {decimals(currency)} decimal places")
    if amount > HIGHEST:
        raise ValueError("This is more than anything costs")
    return int(amount)


def major(amount: int, currency: str) -> str:
    """Minor units as people write them, without separators: 129950 KES is `1299.50`."""
    places = decimals(currency)
    return f"{amount // 10**places}.{amount % 10**places:0{places}}" if places else str(amount)


def listed(text: str) -> list[str]:
    """`a; b` as a list, without empty ones and doubles."""
    return list(dict.fromkeys(each.strip() for each in text.split(";") if each.strip()))


def _pairs(row: int, column: str, text: str, faults: list[Fault]) -> dict[str, str]:
    """`size=S; colour=red`."""
    pairs: dict[str, str] = {}
    for each in listed(text):
        name, sign, value = (part.strip() for part in each.partition("="))
        if not (sign and name and value) or name in pairs:
            faults.append(Fault(row, column, "Pairs such as `size=S; colour=red`"))
            return {}
        pairs[name] = value
    return pairs


# ---- writing


def columns(currencies: Sequence[str]) -> list[str]:
    """The heading of a table."""
    money = [f"{kind} {currency}" for currency in currencies for kind in ("price", "compare_at")]
    return [*OF_PRODUCT, *OF_VARIANT, *money]


def rows_of(product: Product, category: str, currencies: Sequence[str]) -> list[list[str]]:
    """A product as rows under that heading; `category` is the slug of its own."""
    own = {
        "slug": product.slug,
        "title_en": product.title.en,
        "title_sw": product.title.sw,
        "description_en": product.description.en,
        "description_sw": product.description.sw,
        "category": category,
        "brand": product.brand,
        "tags": "; ".join(product.tags),
        "attributes": _paired(product.attributes),
        "tax_class": product.tax_class,
        "availability": product.availability,
    }
    rows: list[dict[str, str]] = [_of_variant(each, currencies) for each in product.variants] or [{}]
    rows[0] = own | rows[0]
    return [[({"slug": product.slug} | row).get(name, "") for name in columns(currencies)] for row in rows]


def _of_variant(variant: Variant, currencies: Sequence[str]) -> dict[str, str]:
    money = {
        f"{kind} {currency}": major(amounts[currency], currency)
        for kind, amounts in (("price", variant.prices), ("compare_at", variant.compare_at))
        for currency in currencies
        if amounts.get(currency)
    }
    return money | {
        "sku": variant.sku,
        "options": _paired(variant.options),
        "weight": str(variant.weight),
        "barcode": variant.barcode,
        "tracked": "yes" if variant.tracked else "no",
    }


def _paired(pairs: Mapping[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in pairs.items())
