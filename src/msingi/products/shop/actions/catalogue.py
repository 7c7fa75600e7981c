"""What may be done with goods: they are made, changed, put on sale, taken off it, put away, removed."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from msingi.kit.again import until_it_fits
from msingi.kit.db import session
from msingi.kit.errors import NotFound, Stale
from msingi.kit.events import emit
from msingi.kit.ids import new_id
from msingi.kit.unit import atomic, guarded
from msingi.products.shop.actions import pictures
from msingi.products.shop.contract import ProductChanged
from msingi.products.shop.models.catalogue import (
    Availability,
    Option,
    Picture,
    Product,
    Variant,
    Words,
    categories,
    products,
    tags_of,
)
from msingi.products.shop.rules import catalogue as rules
from msingi.products.shop.schemas.catalogue import NewProduct, NewVariant, ProductPatch, VariantPatch

# ---- products


async def add(new: NewProduct) -> Product:
    """Make a draft. Without a slug it gets one made of its title."""
    given = as_stored(new.given())
    slug = given.pop("slug", None) or await _free_slug(rules.slug_of(given["title"].en))
    return await insert(Product(slug=slug, **given))


@atomic
async def insert(product: Product) -> Product:
    """Store a new product with what follows from it.

    Raises AlreadyExists for a slug, SKU or variant that is there; NoSuchCategory, UnknownPicture.
    """
    branch = await hold_category(product.category_id)
    product = replace(product, pictures=await _shown([], product.pictures))
    return await products.add(
        rules.derived(replace(product, category_ids=branch)), tells=[ProductChanged(product_id=product.id)]
    )


async def edit(product_id: str, patch: ProductPatch, if_match: int | None) -> Product:
    """Change what the patch says, and nothing if it says nothing new."""
    given = as_stored(patch.given())
    return await _on_the_newest(product_id, if_match, lambda product: save(product, replace(product, **given)))


async def publish(product_id: str, if_match: int | None) -> Product:
    """Put a product on sale. Raises NotReady, Archived."""

    async def act(product: Product) -> Product:
        rules.check_ready(product)
        return await save(product, replace(product, availability="published"))

    return await _on_the_newest(product_id, if_match, act)


async def put_aside(
    product_id: str, availability: Availability, if_match: int | None, *, only: Availability | None = None
) -> Product:
    """Make a product a draft again, or archive it. With `only`, what is anything else stays as it is."""

    async def act(product: Product) -> Product:
        if only is not None and product.availability != only:
            return product
        return await save(product, replace(product, availability=availability))

    return await _on_the_newest(product_id, if_match, act)


async def remove(product_id: str, if_match: int | None) -> None:
    """Remove a product that is not for sale, for good."""

    async def act(product: Product) -> Product:
        rules.check_removable(product)
        await _remove(product)
        return product

    await _on_the_newest(product_id, if_match, act)


@atomic
async def _remove(product: Product) -> None:
    await products.remove(product)
    await _shown(product.pictures, [])
    await emit(ProductChanged(product_id=product.id))


@guarded
async def count_sold(product_id: str, quantity: int) -> None:
    """Count what was sold, or with a negative number what came back.

    Past the version and the caches: whoever edits the product shall not lose to every buyer, and a list by what is sold
    best may be some minutes old. It touches no index but the one that says whose rank is to follow.
    """
    change = {"$inc": {"sold": quantity}, "$set": {"outsold": True}}
    await products.raw.update_one({"_id": product_id}, change, session=session())


async def rank_by_sold() -> int:
    """Let the rank of what was sold since the last time follow; returns of how many. Doing it twice is the same."""
    follow = [{"$set": {"rank": "$sold", "outsold": False}}]
    return int((await products.raw.update_many({"outsold": True}, follow)).modified_count)


# ---- variants


async def add_variant(product_id: str, new: NewVariant, if_match: int | None) -> Product:
    """Give a product one more variant."""
    variant = _variant(new)

    async def act(product: Product) -> Product:
        if len(product.variants) >= rules.MOST_VARIANTS:
            raise rules.CatalogueFull(most=rules.MOST_VARIANTS)
        return await save(product, replace(product, variants=[*product.variants, variant]))

    return await _on_the_newest(product_id, if_match, act)


async def edit_variant(product_id: str, variant_id: str, patch: VariantPatch, if_match: int | None) -> Product:
    """Change a variant: its prices, for one."""
    given = patch.given()

    async def act(product: Product) -> Product:
        at = _place_of(product, variant_id)
        variants = list(product.variants)
        variants[at] = replace(variants[at], **given)
        return await save(product, replace(product, variants=variants))

    return await _on_the_newest(product_id, if_match, act)


async def remove_variant(product_id: str, variant_id: str, if_match: int | None) -> Product:
    """Take a variant away; a published product keeps at least one that has a price."""

    async def act(product: Product) -> Product:
        at = _place_of(product, variant_id)
        return await save(product, replace(product, variants=product.variants[:at] + product.variants[at + 1 :]))

    return await _on_the_newest(product_id, if_match, act)


def _place_of(product: Product, variant_id: str) -> int:
    for at, variant in enumerate(product.variants):
        if variant.id == variant_id:
            return at
    raise NotFound


# ---- how it is written


@atomic
async def save(before: Product, after: Product) -> Product:
    """Write what differs, with what follows from it, if nobody was faster. Raises Stale."""
    if after.availability == "published":
        rules.check_ready(after)
    if after.category_id != before.category_id:
        after = replace(after, category_ids=await hold_category(after.category_id))
    if after.pictures != before.pictures:
        after = replace(after, pictures=await _shown(before.pictures, after.pictures))
    changes = _differences(before, rules.derived(after))
    if not changes:
        return before
    return await products.change(
        before.id,
        {"$set": changes},
        when={"version": before.version},
        tells=[ProductChanged(product_id=before.id)],
        stale=tags_of(before),
    )


async def hold_category(category_id: str | None) -> list[str]:
    """The ids of a category's branch, itself last. It cannot be moved or removed before this unit has committed."""
    if category_id is None:
        return []
    held = await categories.raw.find_one_and_update({"_id": category_id}, {"$inc": {"uses": 1}}, session=session())
    if held is None:
        raise rules.NoSuchCategory
    return [*held["path"], category_id]


async def _shown(before: Sequence[Picture], after: Sequence[Picture]) -> list[Picture]:
    """Pictures that a product shows from now on, with their own measures. Raises UnknownPicture."""
    old, new = {each.file for each in before}, {each.file for each in after}
    if old - new:
        await pictures.take_off(old - new)
    kept = await pictures.put_on(new) if new else {}
    return [replace(each, width=kept[each.file].width, height=kept[each.file].height) for each in after]


def _differences(before: Product, after: Product) -> dict[str, Any]:
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    return {name: value for name, value in new.items() if old[name] != value}


async def _on_the_newest(
    product_id: str, if_match: int | None, act: Callable[[Product], Awaitable[Product]]
) -> Product:
    """Do `act` with a product; if another writer was faster, with what that one left, unless a version was named."""

    async def once() -> Product:
        product = await products.get(product_id)
        rules.check_version(product, if_match)
        return await act(product)

    return await until_it_fits(once, if_match, losing=Stale)


async def _free_slug(slug: str) -> str:
    return f"{slug[:72].rstrip('-')}-{new_id()[-6:]}" if await products.exists({"slug": slug}) else slug


def as_stored(given: dict[str, Any]) -> dict[str, Any]:
    """What a form gave, as it is kept: trimmed, without doubles."""
    kept = dict(given)
    for name in ("title", "description"):
        if name in kept:
            kept[name] = words(kept[name])
    if "brand" in kept:
        kept["brand"] = kept["brand"].strip()
    if "tags" in kept:
        kept["tags"] = rules.tidied(kept["tags"])
    if "attributes" in kept:
        kept["attributes"] = {name: value.strip() for name, value in kept["attributes"].items()}
    if "options" in kept:
        kept["options"] = [Option(each.name, each.values) for each in kept["options"]]
    if "pictures" in kept:
        shown = {each.file: Picture(each.file, words(each.alt)) for each in kept["pictures"]}
        kept["pictures"] = list(shown.values())
    if "variants" in kept:
        kept["variants"] = variants(kept["variants"])
    return kept


def words(form: Any) -> Words:
    """Texts of a form, trimmed."""
    return Words(form.en.strip(), form.sw.strip())


def variants(forms: Sequence[NewVariant]) -> list[Variant]:
    return [_variant(each) for each in forms]


def _variant(form: NewVariant) -> Variant:
    given = form.given()
    return Variant(id=given.pop("id", None) or new_id(), **given)
