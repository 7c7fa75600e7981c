"""A list that is read as views says what one says that is read as documents, and asks for no more than it shows."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
import pytest
import pytest_asyncio
from msgspec import Struct

from msingi.kit import state
from msingi.kit.db import SEALED, Collection, Doc, Page, Paging, View
from msingi.kit.search import best_first, best_of, words_of
from msingi.kit.shown import shown
from msingi.kit.tests.conftest import running as running
from msingi.kit.unit import atomic

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Place(Struct):
    shelf: str
    row: int = 0


class Book(Doc):
    title: str
    body: str = ""
    labels: list[str] = []
    price: int = 0
    due: datetime | None = None
    place: Place | None = None
    status: Literal["in", "out"] = "in"
    words: list[str] = []
    title_words: list[str] = []
    secret: Annotated[str, SEALED] = ""


class BookView(View):
    version: int
    title: str
    id: str
    due: datetime | None
    labels: list[str]
    place: Place | None
    status: Literal["in", "out"]
    created_at: datetime
    secret: Annotated[str, SEALED]


books = Collection(Book, "books", indexes=["price _id", "words"])
books.product = "library"


@pytest_asyncio.fixture(loop_scope="session")
async def shelf(running: state.State) -> AsyncIterator[list[Book]]:
    """Fifty books, of which some lack what was thought of later."""

    @atomic
    async def fill() -> list[Book]:
        found = [
            Book(
                title=f"Hay {number % 7} goats",
                body="x" * 1000,
                labels=["farm"] * (number % 3),
                price=number % 10,
                due=BEGAN + timedelta(milliseconds=number) if number % 2 else None,
                place=Place(f"shelf {number}") if number % 4 else None,
                words=words_of(f"hay {number % 7} goats and more"),
                title_words=words_of(f"hay {number % 7}"),
                secret=f"of {number}",
            )
            for number in range(50)
        ]
        await books.add_many(found)
        return found

    made = await fill()
    await books.raw.update_many({"price": 3}, {"$unset": {"labels": "", "due": "", "status": "", "place": ""}})
    yield made


@pytest.mark.parametrize("sort", ["id", "-id", "price", "-price", "-created_at"])
@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_every_page_of_views_is_byte_for_byte_the_page_of_documents(
    shelf: list[Book], sort: str, limit: int
) -> None:
    sorts, after, seen = ("_id", "price", "created_at"), None, 0
    while True:
        paging = Paging(limit=limit, after=after, sort=sort)
        documents = (await books.page({}, paging, sorts=sorts)).map(BookView.of)
        views = await books.page_of(BookView, {}, paging, sorts=sorts)
        assert msgspec.json.encode(views) == msgspec.json.encode(documents)
        assert all(isinstance(each, BookView) for each in views.items)
        seen, after = seen + len(views.items), views.next
        if after is None:
            break
    assert seen == len(shelf)


async def test_the_best_of_a_search_are_the_same_as_views(shelf: list[Book]) -> None:
    words, after, seen = ["hay", "goats"], None, 0
    while True:
        paging, where = Paging(limit=9, after=after), {"words": {"$all": words}}
        documents: Page[Book] = await best_first(books, where, words, paging, "title_words")
        views = await best_of(BookView, books, where, words, paging, "title_words")
        assert msgspec.json.encode(views) == msgspec.json.encode(documents.map(BookView.of))
        seen, after = seen + len(views.items), views.next
        if after is None:
            break
    assert seen == len(shelf)


async def test_a_search_inside_a_transaction_sees_what_it_wrote(shelf: list[Book]) -> None:
    @atomic
    async def written_and_found() -> list[str]:
        await books.add(Book(title="Straw", words=["straw"], title_words=["straw"]))
        found = await best_of(BookView, books, {"words": "straw"}, ["straw"], Paging(), "title_words")
        return [each.title for each in found.items]

    assert await written_and_found() == ["Straw"]


async def test_only_what_is_shown_is_asked_for() -> None:
    assert shown(Book, BookView).fields == dict.fromkeys(
        ["version", "title", "_id", "due", "labels", "place", "status", "created_at", "secret"], 1
    )


class Priced(View):
    id: str
    price: str


class Summed(View):
    id: str
    total: int


@pytest.mark.parametrize("view", [Priced, Summed])
async def test_a_view_of_more_than_is_stored_is_read_from_documents(view: type[Any]) -> None:
    with pytest.raises(TypeError, match=f"{view.__name__}\\.(price|total) is not stored as such in Book"):
        await books.page_of(view, {}, Paging())


async def test_a_row_that_lacks_what_every_document_has_is_a_fault_as_it_is_for_documents(shelf: list[Book]) -> None:
    await books.raw.update_one({"_id": shelf[0].id}, {"$unset": {"title": ""}}, bypass_document_validation=True)
    with pytest.raises(msgspec.ValidationError):
        await books.page({}, Paging(limit=100))
    with pytest.raises(msgspec.ValidationError):
        await books.page_of(BookView, {}, Paging(limit=100))
