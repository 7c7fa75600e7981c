"""What is stored."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import config
from beanie import Document, init_beanie
from bson import ObjectId
from pydantic import Field
from pymongo import ASCENDING, DESCENDING, TEXT, AsyncMongoClient, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession

T = TypeVar("T")
client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(config.MONGO, maxPoolSize=32, tz_aware=True, connect=False)


def now() -> datetime:
    at = datetime.now(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


class Kept(Document):
    id: str = Field(default_factory=lambda: str(ObjectId()))
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)
    version: int = 1


class Task(Kept):
    project_id: str
    title: str
    description: str = ""
    labels: list[str] = []
    priority: int = 0
    due: datetime | None = None
    recurrence: dict[str, Any] | None = None
    assignees: list[str] = []
    parent_id: str | None = None
    position: str = ""
    status: Literal["open", "done"] = "open"
    completed_at: datetime | None = None
    completed_by: str | None = None
    next_id: str | None = None
    created_by: str = ""
    reminders: int = 0

    class Settings:
        name = "tasks"
        indexes = [
            IndexModel([("project_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)]),
            IndexModel([("project_id", ASCENDING), ("position", ASCENDING)], unique=True),
            IndexModel(
                [("project_id", ASCENDING), ("title", TEXT), ("description", TEXT)],
                weights={"title": 10, "description": 1},
                default_language="none",
                language_override="_language",
            ),
        ]


class Member(Kept):
    project_id: str
    user_id: str
    role: str

    class Settings:
        name = "members"
        indexes = ["user_id"]


class Reminder(Kept):
    project_id: str
    task_id: str
    user_id: str
    at: datetime | None
    minutes_before_due: int | None = None
    channel: str = "email"
    state: str = "waiting"
    sent_at: datetime | None = None

    class Settings:
        name = "reminders"
        indexes = [IndexModel([("task_id", ASCENDING), ("user_id", ASCENDING), ("at", ASCENDING)])]


class Outbox(Kept):
    name: str
    payload: dict[str, Any]

    class Settings:
        name = "outbox"


class Letter(Kept):
    to: str
    template: str
    data: dict[str, Any]
    state: str = "waiting"

    class Settings:
        name = "letters"


class Note(Kept):
    owner: str
    title: str
    body: str = ""
    tags: list[str] = []
    pinned: bool = False
    state: str = "active"
    trashed_at: datetime | None = None
    sequence: int = 0

    class Settings:
        name = "notes"
        indexes = [
            IndexModel([("owner", ASCENDING), ("state", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)]),
            IndexModel([("owner", ASCENDING), ("state", ASCENDING), ("updated_at", DESCENDING), ("_id", DESCENDING)]),
            IndexModel([("owner", ASCENDING), ("sequence", ASCENDING)]),
            IndexModel(
                [("owner", ASCENDING), ("title", TEXT), ("tags", TEXT), ("body", TEXT)],
                weights={"title": 10, "tags": 10, "body": 1},
                default_language="none",
                language_override="_language",
            ),
        ]


class Revision(Kept):
    note_id: str
    owner: str
    number: int
    title: str
    body: str
    tags: list[str]

    class Settings:
        name = "revisions"
        indexes = [IndexModel([("note_id", ASCENDING), ("number", ASCENDING)], unique=True)]


class Shelf(Kept):
    sequence: int = 0
    notes: int = 0

    class Settings:
        name = "shelves"


class User(Document):
    id: str
    email: str
    name: str
    password: str
    roles: list[str]
    disabled: bool
    created_at: datetime

    class Settings:
        name = "users"
        indexes = [IndexModel([("email", ASCENDING)], unique=True)]


class Session(Kept):
    account: str
    current: bytes
    generation: int = 0
    methods: list[str]
    user_agent: str
    address: str
    ends_at: datetime

    class Settings:
        name = "sessions"
        indexes = [
            IndexModel([("account", ASCENDING), ("_id", DESCENDING)]),
            IndexModel([("ends_at", ASCENDING)], expireAfterSeconds=24 * 3600),
        ]


class Audit(Kept):
    kind: str
    actor: str
    about: str
    data: dict[str, Any]

    class Settings:
        name = "audit"
        indexes = [IndexModel([("about", ASCENDING), ("_id", DESCENDING)])]


class Product(Document):
    id: str
    slug: str
    title: dict[str, str]
    brand: str
    category_id: str | None
    tags: list[str]
    picture: dict[str, Any] | None
    price: dict[str, Any]
    compare_at: dict[str, Any] | None
    from_price: bool
    variants: int
    availability: str
    created_at: datetime

    class Settings:
        name = "products"
        indexes = [
            IndexModel([("availability", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)]),
        ]


class Picture(Kept):
    file: str
    width: int
    height: int
    sizes: dict[str, str]
    by: str
    used_at: datetime

    class Settings:
        name = "pictures"


ALL = [Task, Member, Reminder, Outbox, Letter, Note, Revision, Shelf, User, Session, Audit, Product, Picture]


async def connect() -> None:
    """Open the database; collections and indexes are there afterwards."""
    await init_beanie(database=client[config.DATABASE], document_models=ALL)


async def transaction(work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
    """Do it all or nothing, again if another was faster."""
    async with client.start_session() as session:
        return await session.with_transaction(work)
