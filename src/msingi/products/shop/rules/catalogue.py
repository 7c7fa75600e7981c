"""What goods may be, and what follows from what they are: no database, no clock, no await."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from msingi.kit.errors import Conflict, Invalid, NotFound, Stale
from msingi.kit.search import words_of
from msingi.products.shop.models.catalogue import CURRENCIES, Category, Option, Product, Variant

MOST_VARIANTS = 100  # of one product
MOST_CATEGORIES = 500
MOST_MOVED = 500  # products that stand in a branch which goes elsewhere: they are written in one transaction
MOST_SYNONYMS = 1000  # groups
MOST_TERMS = 300  # of one product
MOST_WORDS = 10  # that are searched for at once
MOST_FILTERS = 10  # at once, and values of one
MOST_ALTERNATIVES = 8  # words that stand for one word
DEEPEST = 5  # levels of categories
LONGEST_SLUG = 80
LONGEST_KEY = 80
PLAIN = re.compile(r"[a-z0-9]+")
NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")


class NotReady(Conflict):
    """It cannot be sold yet: {reason}."""


class StillPublished(Conflict):
    """It is on sale; take it off the shelf first."""


class Archived(Conflict):
    """It is archived; take it out of the archive first."""


class CategoryInUse(Conflict):
    """There is something in this category; move that elsewhere first."""


class BranchTooLarge(Conflict):
    """More than {most} products stand in this branch; move them in smaller parts, or by an import."""


class CategoryCircle(Conflict):
    """A category cannot stand in itself."""


class TooDeep(Conflict):
    """Categories stand at most {most} deep."""


class CatalogueFull(Conflict):
    """There is room for {most} of these, and they are there already."""


class NoSuchCategory(Invalid):
    """There is no category with that id."""


class NoSuchCurrency(Invalid):
    """Prices are kept in {known}."""


class BadOptions(Invalid):
    """The variants and what they differ in do not fit together: {reason}."""


class DoubledVariant(Invalid):
    """Two variants have the same {field}: {value}."""


class TooManyWords(Invalid):
    """Search for at most {most} words at once."""


class NotAWord(Invalid):
    """Synonyms are two or more different single words, which this is not: {given}."""


class BadSheetFormat(Invalid):
    """An export is csv, xlsx or json."""


# ---- names


def slug_of(title: str) -> str:
    """A slug made of a title: `Ng'ombe & Co` is `ngombe-co`; of one without such letters, `goods`."""
    plain = unicodedata.normalize("NFKD", title.replace("'", "").replace("’", "")).encode("ascii", "ignore").decode()
    return "-".join(PLAIN.findall(plain.lower()))[:LONGEST_SLUG].strip("-") or "goods"


def folded(value: str) -> str:
    """A brand, a tag or an attribute's value as it is looked for."""
    return " ".join(value.split()).casefold()


def tidied(values: Iterable[str]) -> list[str]:
    """Without blanks at both ends, and without doubles."""
    return list(dict.fromkeys(each.strip() for each in values))


# ---- what follows from what a product is


def derived(product: Product) -> Product:
    """The product with what lists find it by. Raises BadOptions, DoubledVariant, NoSuchCurrency."""
    check_variants(product.options, product.variants)
    lowest = lowest_prices(product.variants)
    title_terms = words_of(product.title.en, product.title.sw)
    return replace(
        product,
        lowest=lowest,
        shelves=shelves_of(lowest, product.category_ids) if product.availability == "published" else [],
        terms=terms_of(product, title_terms),
        title_terms=title_terms,
        title_key=" ".join(words_of(product.title.en))[:LONGEST_KEY],
    )


def lowest_prices(variants: Iterable[Variant]) -> dict[str, int]:
    """The lowest price in each currency. A price of 0 is none."""
    lowest: dict[str, int] = {}
    for variant in variants:
        for currency, price in variant.prices.items():
            if price > 0:
                lowest[currency] = min(price, lowest.get(currency, price))
    return lowest


def shelves_of(currencies: Iterable[str], category_ids: Sequence[str]) -> list[str]:
    return [shelf for each in currencies for shelf in (each, *(f"{each}/{id}" for id in category_ids))]


def terms_of(product: Product, title: Sequence[str]) -> list[str]:
    """What a product is found by, its title's words first: they must not fall to the limit."""
    codes = (code for variant in product.variants for code in (variant.sku, variant.barcode))
    others = words_of(product.brand, *product.tags, *product.attributes.values())
    filters = [
        *([f"brand:{folded(product.brand)}"] if product.brand else []),
        *(f"tag:{folded(tag)}" for tag in product.tags),
        *(f"{name}:{folded(value)}" for name, value in product.attributes.items()),
    ]
    terms = [*title, *filters, *others, *words_of(*codes)]
    return list(dict.fromkeys(terms))[:MOST_TERMS]


# ---- checks


def check_version(doc: Product | Category, if_match: int | None) -> None:
    """Raise Stale if the caller decided on another version."""
    if if_match is not None and doc.version != if_match:
        raise Stale


def check_name(name: str) -> None:
    """Raise NotFound for what cannot be an id or a slug: it shall leave no trace among the answers that are kept."""
    if not NAME.fullmatch(name):
        raise NotFound


def check_currency(currency: str) -> None:
    if currency not in CURRENCIES:
        raise NoSuchCurrency(known=", ".join(CURRENCIES))


def check_variants(options: Sequence[Option], variants: Sequence[Variant]) -> None:
    """Each variant has one value of each option, no two the same ones, and ids and SKUs of its own."""
    _check_options(options)
    for field in ("id", "sku"):
        seen: set[str] = set()
        for variant in variants:
            value: str = getattr(variant, field)
            if value in seen:
                raise DoubledVariant(field=field, value=value)
            seen.add(value)
    allowed = {option.name: set(option.values) for option in options}
    chosen: set[tuple[str, ...]] = set()
    for variant in variants:
        for currency in (*variant.prices, *variant.compare_at):
            check_currency(currency)
        _check_choice(variant, allowed)
        choice = tuple(variant.options.get(name, "") for name in allowed)
        if allowed and choice in chosen:
            raise BadOptions(reason=f"{' / '.join(choice)} is there twice")
        chosen.add(choice)


def _check_options(options: Sequence[Option]) -> None:
    names = [option.name for option in options]
    if len(set(names)) < len(names):
        raise BadOptions(reason="an option is there twice")
    for option in options:
        if len(set(option.values)) < len(option.values):
            raise BadOptions(reason=f"a value of {option.name} is there twice")


def _check_choice(variant: Variant, allowed: dict[str, set[str]]) -> None:
    if variant.options.keys() != allowed.keys():
        wanted = ", ".join(allowed) or "no options"
        raise BadOptions(reason=f"{variant.sku} has to say {wanted}")
    for name, value in variant.options.items():
        if value not in allowed[name]:
            raise BadOptions(reason=f"{variant.sku}: {name} is never {value}")


def check_ready(product: Product) -> None:
    """Raise NotReady unless a buyer could buy some of it, Archived for what was put away."""
    if product.availability == "archived":
        raise Archived
    if not product.variants:
        raise NotReady(reason="it has no variant")
    if not lowest_prices(product.variants):
        raise NotReady(reason="no variant has a price")


def check_removable(product: Product) -> None:
    if product.availability == "published":
        raise StillPublished


def check_below(category: Category | None, path: Sequence[str], height: int) -> None:
    """Raise unless a category, with what stands `height` levels deep in it, may stand in the parent of this path."""
    if category is not None and category.id in path:
        raise CategoryCircle
    if len(path) + 1 + height > DEEPEST:
        raise TooDeep(most=DEEPEST)


# ---- the words of a search


def asked_words(text: str) -> list[str]:
    """The folded words of a search. Raises TooManyWords."""
    words = words_of(text)
    if len(words) > MOST_WORDS:
        raise TooManyWords(most=MOST_WORDS)
    return words


def widened(words: Sequence[str], groups: Iterable[Sequence[str]]) -> list[list[str]]:
    """Each word with those that mean the same, itself first."""
    company = [list(group) for group in groups]
    found = []
    for word in words:
        same = [word, *(other for group in company if word in group for other in group)]
        found.append(list(dict.fromkeys(same))[:MOST_ALTERNATIVES])
    return found
