"""What may be done with the tree of goods, and with the words that mean the same."""

from typing import Any

from msgspec.structs import replace

from msingi.kit.again import until_it_fits
from msingi.kit.errors import Stale
from msingi.kit.ids import new_id
from msingi.kit.search import words_of
from msingi.kit.unit import atomic, guarded
from msingi.products.shop.actions.catalogue import hold_category, save, words
from msingi.products.shop.models.catalogue import Category, Synonym, categories, products, synonyms
from msingi.products.shop.queries import catalogue as queries
from msingi.products.shop.rules import catalogue as rules
from msingi.products.shop.schemas.catalogue import CategoryPatch, NewCategory, SynonymForm

# ---- categories


@atomic
async def add(new: NewCategory) -> Category:
    """Make a category, in another one or at the root."""
    if await categories.count({}, limit=rules.MOST_CATEGORIES) >= rules.MOST_CATEGORIES:
        raise rules.CatalogueFull(most=rules.MOST_CATEGORIES)
    given = new.given()
    name = words(given.pop("name"))
    path = await _path(None, new.parent_id, height=0)
    slug = given.pop("slug", None) or await _free_slug(rules.slug_of(name.en))
    return await categories.add(Category(name=name, slug=slug, path=path, **given))


async def edit(category_id: str, patch: CategoryPatch, if_match: int | None) -> Category:
    """Rename a category, or put it elsewhere with all that is in it."""
    given = patch.given()
    if "name" in given:
        given["name"] = words(given["name"])

    async def once() -> Category:
        category = await queries.category(category_id)
        rules.check_version(category, if_match)
        changes = {name: value for name, value in given.items() if getattr(category, name) != value}
        return await _change(category, changes) if changes else category

    return await until_it_fits(once, if_match, losing=Stale)


@atomic
async def _change(category: Category, changes: dict[str, Any]) -> Category:
    if "parent_id" in changes:
        changes = changes | {"path": await _move(category, changes["parent_id"])}
    return await categories.change(category.id, {"$set": changes}, when={"version": category.version})


async def _move(category: Category, parent_id: str | None) -> list[str]:
    """Put all that stands in a category under another parent; returns its new path."""
    below = [each for each in await queries.branch(category.id) if each.id != category.id]
    height = max((len(each.path) - len(category.path) for each in below), default=0)
    path = await _path(category, parent_id, height)
    depth = len(category.path)
    moved = {category.id: path} | {each.id: path + each.path[depth:] for each in below}
    goods = await products.many({"category_id": {"$in": list(moved)}}, limit=rules.MOST_MOVED + 1)
    if len(goods) > rules.MOST_MOVED:
        raise rules.BranchTooLarge(most=rules.MOST_MOVED)
    for each in below:
        await categories.change(each.id, {"$set": {"path": moved[each.id]}})
    for product in goods:
        held = str(product.category_id)
        await save(product, replace(product, category_ids=[*moved[held], held]))
    return path


async def _path(category: Category | None, parent_id: str | None, height: int) -> list[str]:
    """The path of what stands in a parent, which stays where it is until this unit has committed."""
    if parent_id is None:
        return []
    path = await hold_category(parent_id)
    rules.check_below(category, path, height)
    return path


@atomic
async def remove(category_id: str, if_match: int | None) -> None:
    """Remove an empty category."""
    await hold_category(category_id)
    category = await queries.category(category_id)
    rules.check_version(category, if_match)
    if await categories.exists({"parent_id": category_id}) or await products.exists({"category_id": category_id}):
        raise rules.CategoryInUse
    await categories.remove(category)


async def _free_slug(slug: str) -> str:
    return f"{slug[:72].rstrip('-')}-{new_id()[-6:]}" if await categories.exists({"slug": slug}) else slug


# ---- synonyms


@guarded
async def add_synonym(form: SynonymForm) -> Synonym:
    """Let some words mean the same."""
    if await synonyms.count({}, limit=rules.MOST_SYNONYMS) >= rules.MOST_SYNONYMS:
        raise rules.CatalogueFull(most=rules.MOST_SYNONYMS)
    return await synonyms.add(Synonym(words=_single(form.words)))


@guarded
async def edit_synonym(synonym_id: str, form: SynonymForm, if_match: int | None) -> Synonym:
    """Let other words mean the same."""
    synonym = await queries.synonym(synonym_id)
    when = {"version": synonym.version if if_match is None else if_match}
    return await synonyms.change(synonym.id, {"$set": {"words": _single(form.words)}}, when=when)


@atomic
async def remove_synonym(synonym_id: str, if_match: int | None) -> None:
    """Let them mean what they meant before."""
    synonym = await queries.synonym(synonym_id)
    if if_match is not None and synonym.version != if_match:
        raise Stale
    await synonyms.remove(synonym)


def _single(given: list[str]) -> list[str]:
    """Words as they are searched for."""
    found: list[str] = []
    for each in given:
        read = words_of(each)
        if len(read) != 1:
            raise rules.NotAWord(given=each)
        found += read
    if len(set(found)) < 2:
        raise rules.NotAWord(given=", ".join(given))
    return list(dict.fromkeys(found))
