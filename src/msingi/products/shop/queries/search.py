"""Goods in lists: by category, by words, by what they are, in four orders, page after page.

A list without conditions is a stretch of an index on `shelves`. Words, filters and a range of prices are conditions:
one of them, or the shelf, is walked in the order that was asked for, by its index alone, and the others are asked which
of the ids so found fit them too, again by their indexes alone. Only the goods of the page itself are read.

What is walked is what reaches furthest in SAMPLED steps, so the steps of a page follow from how many of one condition's
goods fit the others too, and not from how many goods there are. Where many fit each of the conditions and hardly any
all of them, a page ends after MOST_WALKED steps, with what was found and a cursor to go on from. Two things have no
index in the order of another: a range of prices, and terms in the order of titles. Of these, what fewer than RARE fit
is gathered and sorted, and of what more fit, the shelf is walked.
"""

from asyncio import gather
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, field

from msingi.kit.cache import cached
from msingi.kit.db import BadCursor, BadSort, Index, Page, Paging, Row, Where, is_storable, packed, session, unpacked
from msingi.kit.encoded import Encoded, encoded
from msingi.kit.money import Money
from msingi.products.shop.models.catalogue import (
    BY_ID,
    BY_PRICE,
    BY_RANK,
    BY_TERM,
    BY_TITLE,
    BY_TITLE_TERM,
    SORTED_BY,
    TERM_BY_PRICE,
    TERM_BY_RANK,
    Picture,
    Words,
    products,
)
from msingi.products.shop.schemas.catalogue import Count, FacetsView, PriceRange, ProductCard

RARE = 1000  # what fewer goods fit is gathered whole and then sorted, where it cannot be walked in order
SAMPLED = 50  # of the goods that fit each condition, to see which is the rarest
AT_ONCE = 1000  # steps on an index between two looks at what else has to fit, at most
MOST_WALKED = 10_000  # steps on an index for one page
FACETED = 1000  # goods of a shelf whose facets are counted, and kept
FACETED_OF_SEARCH = 200  # of a search: nobody keeps those
MOST_WALKED_FOR_FACETS = 2000
MOST_COUNTS = 50  # values of a facet that are named
PATIENCE = 3000  # milliseconds
SORTS = ("created_at", "price", "sold", "title")
USUAL = frozenset({10, 12, 20, 24, 48, 50, 100})  # lengths of first pages that are kept: so their number is bounded
CARD: Row = {
    **dict.fromkeys(("slug", "title", "brand", "category_id", "tags", "lowest", "rank", "title_key"), 1),
    **{"variants.prices": 1, "variants.compare_at": 1, "pictures": {"$slice": 1}},
}
ID: Row = {"_id": 1}
Place: TypeAlias = tuple[Any, str]  # what the list is sorted by, and the id, of the last one seen
Stretch: TypeAlias = tuple[Where, list[tuple[str, int]]]  # a filter, and the order in which what fits it stands


class Search(Struct, frozen=True, kw_only=True):
    """What is looked for. Each of `words` and of `filters` is a list of terms of which one will do."""

    currency: str
    category_id: str | None = None
    words: list[list[str]] = []
    filters: list[list[str]] = []
    low: int | None = None
    high: int | None = None

    @property
    def shelf(self) -> str:
        return f"{self.currency}/{self.category_id}" if self.category_id else self.currency

    @property
    def price(self) -> str:
        return f"lowest.{self.currency}"

    @property
    def range(self) -> Where:
        high = {} if self.high is None else {"$lte": self.high}
        return {"$gte": max(self.low or 1, 1), **high}

    @property
    def has_range(self) -> bool:
        return self.low is not None or self.high is not None


class Order(Struct, frozen=True):
    """The order of a list: a field, upwards (1) or downwards (-1), and the index that has it."""

    key: str
    way: int
    index: Index

    @property
    def sort(self) -> list[tuple[str, int]]:
        return [("_id", self.way)] if self.key == "_id" else [(self.key, self.way), ("_id", self.way)]

    def stretches(self, base: Where, place: Place | None, range: Where) -> list[Stretch]:
        """What follows a place, one after the other: each is one stretch of the index, of several terms merged."""
        step = "$gt" if self.way > 0 else "$lt"
        if self.key == "_id":
            return [(base if place is None else {**base, "_id": {step: place[1]}}, self.sort)]
        if place is None:
            return [({**base, self.key: range} if range else base, self.sort)]
        value, last = place
        # Sorted by the id alone: the database would not see that it can merge where the key is one.
        same = {**base, self.key: value, "_id": {step: last}}, [("_id", self.way)]
        return [same, ({**base, self.key: {**range, step: value}}, self.sort)]

    def place(self, row: Row) -> Place:
        value: Any = row
        for name in self.key.split("."):
            value = value[name]
        return value, row["_id"]


class Condition(Struct, frozen=True):
    """Something that goods have to fit: `index` knows who does, `among` asks so of some ids.

    `ordered` are the indexes by which it can be walked in order, by what goods are sorted by.
    """

    where: Where
    index: Index
    among: Index
    ordered: dict[str, Index] = {}
    of_ids: Where | None = None  # what is asked of ids, if it is less: the shelf is asked for itself


class Found(Struct):
    """What a walk came upon, in order, and where it stopped; None if there is no more."""

    places: list[Place] = field(default_factory=list)
    stopped: Place | None = None


# ---- lists


async def listed(search: Search, page: Paging) -> Encoded:
    """A page of what is for sale, as it goes out. Raises BadSort, BadCursor."""
    is_shelf = not (search.words or search.filters or search.has_range)
    if is_shelf and page.after is None and page.limit in USUAL:
        _order(page.sort or "-created_at", search.currency)
        return await first_of_shelf(search.currency, search.category_id, page.sort or "-created_at", page.limit)
    return encoded(await found(search, page))


@cached(
    minutes=4,  # a rank that has followed what was sold does not make it stale
    tags=lambda currency, category_id, sort, limit: [f"shelf:{category_id}" if category_id else "shelf"],
)
async def first_of_shelf(currency: str, category_id: str | None, sort: str, limit: int) -> Encoded:
    """The first page of a category, or of all there is."""
    search = Search(currency=currency, category_id=category_id)
    return encoded(await found(search, Paging(limit=limit, sort=sort)))


async def found(search: Search, page: Paging) -> Page[ProductCard]:
    """A page of what is for sale: with words and no order the best first, else the newest."""
    if search.words and page.sort is None:
        return await _best_first(search, page)
    order = _order(page.sort or "-created_at", search.currency)
    place = _place(page.after, order)
    conditions = [*map(_of_terms, search.words), *map(_of_terms, search.filters)]
    if search.has_range and order.key != search.price:
        conditions.append(_of_price(search))
    if not conditions:
        rows = await _in_order(order, {"shelves": search.shelf}, place, search, page.limit + 1, CARD)
        following = _cursor(order, order.place(rows[page.limit - 1])) if len(rows) > page.limit else None
        return Page([_card(row, search.currency) for row in rows[: page.limit]], following)
    come = await _fitting(search, order, place, conditions, page.limit + 1)
    shown = come.places[: page.limit]
    last = shown[-1] if len(come.places) > page.limit else come.stopped
    return Page(await _cards([id for _, id in shown], search.currency), _cursor(order, last) if last else None)


async def _best_first(search: Search, page: Paging) -> Page[ProductCard]:
    """First those that have all the words in their title, then the others; of each the newest first."""
    newest = _order("-created_at", search.currency)
    others = list(map(_of_terms, search.filters)) + ([_of_price(search)] if search.has_range else [])
    in_title = [_of_title(group) for group in search.words]
    anywhere = [_of_terms(group) for group in search.words]
    first, last = _best_place(page.after)
    ids: list[str] = []
    following: str | None = None
    for part in range(first, 2):
        wanted = (anywhere if part else in_title) + others
        without = in_title if part else []
        place: Place | None = (last, last) if part == first and last else None
        come = await _fitting(search, newest, place, wanted, page.limit + 1 - len(ids), without)
        room = page.limit - len(ids)
        ids += [id for _, id in come.places[:room]]
        if len(come.places) > room:
            # Where this part began after the page was full, it is gone on with from its beginning.
            following = packed("best", part, ids[-1] if room else "")
        elif come.stopped is not None:
            following = packed("best", part, come.stopped[1])
        if following:
            break
    return Page(await _cards(ids, search.currency), following)


def _best_place(after: str | None) -> tuple[int, str]:
    if after is None:
        return 0, ""
    kind, part, last = unpacked(after, tuple[str, int, str])
    if kind != "best" or part not in (0, 1):
        raise BadCursor
    return part, last


def _order(sort: str, currency: str) -> Order:
    name, way = sort.removeprefix("-"), -1 if sort.startswith("-") else 1
    orders = {
        "created_at": ("_id", BY_ID),  # ids sort by time
        "price": (f"lowest.{currency}", BY_PRICE[currency]),
        "sold": ("rank", BY_RANK),
        "title": ("title_key", BY_TITLE),
    }
    if name not in orders:
        raise BadSort(given=sort, sorts=", ".join(SORTS))
    key, index = orders[name]
    return Order(key, way, index)


def _place(after: str | None, order: Order) -> Place | None:
    if after is None:
        return None
    by, value, last = unpacked(after, tuple[str, str | int, str])
    kind = str if order.key in ("_id", "title_key") else int
    if by != f"{order.way}{order.key}" or type(value) is not kind or not is_storable(value):
        raise BadCursor
    return value, last


def _cursor(order: Order, place: Place) -> str:
    return packed(f"{order.way}{order.key}", place[0], place[1])


# ---- conditions


def _of_terms(any_of: list[str]) -> Condition:
    by_price = {f"lowest.{currency}": index for currency, index in TERM_BY_PRICE.items()}
    return Condition(_one_of("terms", any_of), BY_TERM, BY_TERM, {"_id": BY_TERM, "rank": TERM_BY_RANK, **by_price})


def _of_title(any_of: list[str]) -> Condition:
    return Condition(_one_of("title_terms", any_of), BY_TITLE_TERM, BY_TITLE_TERM, {"_id": BY_TITLE_TERM})


def _one_of(name: str, any_of: list[str]) -> Where:
    return {name: any_of[0] if len(any_of) == 1 else {"$in": any_of}}


def _of_price(search: Search) -> Condition:
    where: Where = {"shelves": search.shelf, search.price: search.range}
    return Condition(where, BY_PRICE[search.currency], SORTED_BY, of_ids={search.price: search.range})


def _of_shelf(search: Search, order: Order) -> Condition:
    return Condition({"shelves": search.shelf}, BY_ID, BY_ID, {order.key: order.index})


async def _fitting(
    search: Search,
    order: Order,
    place: Place | None,
    conditions: list[Condition],
    limit: int,
    without: Sequence[Condition] = (),
    most: int | None = None,
) -> Found:
    """What fits all conditions, and not all of `without`, in an order: by the way that has the fewest steps."""
    shelf = _of_shelf(search, order)
    unordered = [each for each in conditions if order.key not in each.ordered]
    ordered = [each for each in conditions if order.key in each.ordered]
    (driver, *others), are_few = await _rarest_first([*ordered, shelf], order, search)
    counts = [] if are_few else await _counts(unordered)
    if counts and min(counts) < RARE:
        driver = unordered[counts.index(min(counts))]
        others = [each for each in conditions if each is not driver]
        return await _gathered(order, place, search, driver, [*others, shelf], limit, without)
    walked = Order(order.key, order.way, driver.ordered[order.key])
    rest, most = [*others, *unordered], MOST_WALKED if most is None else most
    return await _walked(walked, driver.where, place, search, rest, limit, without, most)


async def _counts(conditions: Sequence[Condition]) -> list[int]:
    """How many fit each, as far as RARE."""
    return await gather(
        *(
            products.raw.count_documents(
                each.where, limit=RARE, hint=each.index.name, maxTimeMS=PATIENCE, session=session()
            )
            for each in conditions
        )
    )


async def _rarest_first(conditions: Sequence[Condition], order: Order, search: Search) -> tuple[list[Condition], bool]:
    """In the order of how many fit, as far as the first of them tell: those of a rare condition reach far.

    And whether fewer than SAMPLED fit the first.
    """
    if len(conditions) == 1:
        return list(conditions), False
    reached = await gather(*(_reach(each, order, search) for each in conditions))
    missing = [at for at, place in enumerate(reached) if place is None]
    others = sorted((place, at) for at, place in enumerate(reached) if place is not None)
    return [conditions[at] for at in [*missing, *(at for _, at in others[:: -order.way])]], bool(missing)


async def _reach(condition: Condition, order: Order, search: Search) -> Place | None:
    """The place of the last of the first SAMPLED that fit; None if there are not so many."""
    range: Where = {order.key: search.range} if order.key == search.price else {}
    rows = await products.raw.find(
        {**condition.where, **range},
        {"_id": 1, order.key: 1},
        sort=order.sort,
        skip=SAMPLED - 1,
        limit=1,
        hint=condition.ordered[order.key].name,
        max_time_ms=PATIENCE,
        session=session(),
    ).to_list()
    return order.place(rows[0]) if rows else None


async def _walked(
    order: Order,
    base: Where,
    place: Place | None,
    search: Search,
    conditions: Sequence[Condition],
    limit: int,
    without: Sequence[Condition],
    most: int,
) -> Found:
    """Go along an index, and keep what fits."""
    come, steps, size = Found(), 0, min(2 * limit, AT_ONCE)
    while True:
        rows = await _in_order(order, base, place, search, size, {"_id": 1, order.key: 1})
        places = [order.place(row) for row in rows]
        fitting = await _among([id for _, id in places], conditions, without)
        come.places += [each for each in places if each[1] in fitting]
        steps += len(rows)
        if len(come.places) >= limit or len(rows) < size:
            return come
        place = places[-1]
        if steps >= most:
            come.stopped = place
            return come
        size = min(_steps_to(limit - len(come.places), len(come.places), steps), AT_ONCE, most - steps)


def _steps_to(wanted: int, met: int, steps: int) -> int:
    """How many more steps find so many, if as many fit as until now; and a few more, to spare another look."""
    return wanted * steps * 5 // (met * 4) + 1 if met else 3 * steps


async def _gathered(
    order: Order,
    place: Place | None,
    search: Search,
    driver: Condition,
    conditions: Sequence[Condition],
    limit: int,
    without: Sequence[Condition],
) -> Found:
    """All that fit, which are few, put in order."""
    rows = await _rows(driver.where, ID, None, RARE, driver.index)
    ids = await _among([row["_id"] for row in rows], conditions, without)
    found: list[Row] = []
    for where in _stretches_of(sorted(ids), order, place, search):
        if len(found) < limit:
            found += await _rows(where, {order.key: 1}, order.sort, limit - len(found), SORTED_BY)
    return Found([order.place(row) for row in found])


def _stretches_of(ids: Sequence[str], order: Order, place: Place | None, search: Search) -> list[Where]:
    """The filters of what of these ids follows a place, one after the other. SORTED_BY answers each by itself."""
    range = search.range if order.key == search.price else {}
    if place is None:
        return [{"_id": {"$in": ids}, **({order.key: range} if range else {})}]
    value, last = place
    behind = [id for id in ids if (id > last if order.way > 0 else id < last)]
    if order.key == "_id":
        return [{"_id": {"$in": behind}}]
    step = "$gt" if order.way > 0 else "$lt"
    return [{"_id": {"$in": behind}, order.key: value}, {"_id": {"$in": ids}, order.key: {**range, step: value}}]


async def _among(ids: Sequence[str], conditions: Sequence[Condition], without: Sequence[Condition]) -> set[str]:
    """Those of some ids that fit all conditions, and not all of `without`."""
    left = await _narrowed(list(ids), conditions)
    if without and left:
        left = left - await _narrowed(list(left), without)
    return left


async def _narrowed(ids: list[str], conditions: Sequence[Condition]) -> set[str]:
    for each in conditions:
        if not ids:
            break
        where = each.where if each.of_ids is None else each.of_ids
        rows = await _rows({**where, "_id": {"$in": ids}}, ID, None, len(ids), each.among)
        ids = [row["_id"] for row in rows]
    return set(ids)


# ---- reading


async def _in_order(
    order: Order, base: Where, place: Place | None, search: Search, limit: int, fields: Row
) -> list[Row]:
    """The next rows of an index."""
    range = search.range if order.key == search.price else {}
    rows: list[Row] = []
    for where, sort in order.stretches(base, place, range):
        if len(rows) < limit:
            rows += await _rows(where, fields, sort, limit - len(rows), order.index)
    return rows


async def _rows(
    where: Where, fields: Row, sort: list[tuple[str, int]] | None, limit: int, index: Index | None
) -> list[Row]:
    """Some rows by an index that is named, so that no plan of another search is used for this one."""
    named = index.name if index is not None else "_id_"
    asked = products.raw.find(
        where, fields, sort=sort, limit=limit, hint=named, max_time_ms=PATIENCE, batch_size=limit + 1, session=session()
    )
    return await asked.to_list()


async def _cards(ids: Sequence[str], currency: str) -> list[ProductCard]:
    """Goods by their ids, in this order; what is gone from the shelf meanwhile is left out."""
    if not ids:
        return []
    where: Where = {"_id": {"$in": list(ids)}, "shelves": currency}
    rows = {row["_id"]: row for row in await _rows(where, CARD, None, len(ids), None)}
    return [_card(rows[id], currency) for id in ids if id in rows]


def _card(row: Row, currency: str) -> ProductCard:
    lowest: int = row["lowest"][currency]
    prices = [(each["prices"].get(currency, 0), each["compare_at"].get(currency, 0)) for each in row["variants"]]
    before = max((was for price, was in prices if price == lowest), default=0)
    return ProductCard(
        id=row["_id"],
        slug=row["slug"],
        title=msgspec.convert(row["title"], Words),
        brand=row["brand"],
        category_id=row["category_id"],
        tags=row["tags"],
        picture=msgspec.convert(row["pictures"][0], Picture) if row["pictures"] else None,
        price=Money(lowest, currency),
        compare_at=Money(before, currency) if before > lowest else None,
        from_price=any(price > lowest for price, _ in prices),
        variants=len(prices),
    )


# ---- facets

NOTHING = FacetsView(
    counted=0,
    complete=True,
    brands=[],
    tags=[],
    categories=[],
    attributes={},
    price=PriceRange(lowest=None, highest=None),
)


async def facets(search: Search) -> Encoded:
    """What the goods that were found have in common, and how many have it, among the newest of them."""
    if not (search.words or search.filters or search.has_range):
        return await facets_of_shelf(search.currency, search.category_id)
    conditions = [*map(_of_terms, search.words), *map(_of_terms, search.filters)]
    if search.has_range:
        conditions.append(_of_price(search))
    newest, most = _order("-created_at", search.currency), FACETED_OF_SEARCH
    come = await _fitting(search, newest, None, conditions, most + 1, most=MOST_WALKED_FOR_FACETS)
    ids = [id for _, id in come.places]
    complete = len(ids) <= most and come.stopped is None
    return encoded(await _facets_of(ids[:most], complete, search.currency))


@cached(minutes=60, tags=lambda currency, category_id: [f"shelf:{category_id}" if category_id else "shelf"])
async def facets_of_shelf(currency: str, category_id: str | None) -> Encoded:
    """The same of a category, or of all there is."""
    search, newest = Search(currency=currency, category_id=category_id), _order("-created_at", currency)
    rows = await _in_order(newest, {"shelves": search.shelf}, None, search, FACETED + 1, ID)
    ids = [row["_id"] for row in rows]
    return encoded(await _facets_of(ids[:FACETED], len(ids) <= FACETED, currency))


async def _facets_of(ids: list[str], complete: bool, currency: str) -> FacetsView:
    price = {"_id": None, "low": {"$min": f"$lowest.{currency}"}, "high": {"$max": f"$lowest.{currency}"}}
    pipeline: list[Row] = [
        {"$match": {"_id": {"$in": ids}}},
        {
            "$facet": {
                "brands": [{"$match": {"brand": {"$ne": ""}}}, *_most("$brand")],
                "tags": [{"$unwind": "$tags"}, *_most("$tags")],
                "categories": [{"$unwind": "$category_ids"}, *_most("$category_ids")],
                "attributes": [
                    {"$project": {"each": {"$objectToArray": "$attributes"}}},
                    {"$unwind": "$each"},
                    *_most({"name": "$each.k", "value": "$each.v"}),
                ],
                "price": [{"$group": price}],
            }
        },
    ]
    cursor = await products.raw.aggregate(pipeline, maxTimeMS=PATIENCE, session=session())
    found = (await cursor.to_list())[0]
    by_name: dict[str, list[Count]] = {}
    for row in found["attributes"]:
        by_name.setdefault(row["_id"]["name"], []).append(Count(value=row["_id"]["value"], count=row["count"]))
    low, high = (found["price"][0][end] for end in ("low", "high")) if found["price"] else (None, None)
    return FacetsView(
        counted=len(ids),
        complete=complete,
        brands=_named(found["brands"]),
        tags=_named(found["tags"]),
        categories=_named(found["categories"]),
        attributes=dict(sorted(by_name.items())),
        price=PriceRange(lowest=Money(low, currency) if low else None, highest=Money(high, currency) if high else None),
    )


def _most(by: Any) -> list[Row]:
    """The most frequent values; of equals the first by name, so that the same goods give the same answer."""
    return [
        {"$group": {"_id": by, "count": {"$sum": 1}}},
        {"$sort": {"count": -1, "_id": 1}},
        {"$limit": MOST_COUNTS},
    ]


def _named(rows: list[Row]) -> list[Count]:
    return [Count(value=row["_id"], count=row["count"]) for row in rows]
