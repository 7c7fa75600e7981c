"""The same data for every stack: people, projects with tasks, words to look for, a picture; and tokens to come with.

Tasks are planted straight into a stack's database, a million of them in a minute or two; people come in where the
stack keeps them. Everything is made from numbers, so that two stacks hold the same documents.
"""

import random
import secrets
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pymongo import MongoClient

from msingi.kit import tokens
from msingi.kit.db import plain
from msingi.kit.search import words_of
from msingi.products.tasks.models import Graph, Member, Project, Task

Row = dict[str, Any]
ISSUER = "msingi"
PASSWORD = "a long walk to the market"
PEOPLE = 32  # who have an account
IN_PROJECT = 5_000  # tasks of one project, at most: the product takes ten thousand
LIVE, LIVE_TASKS = "live", 32  # the project that sockets follow
CONNECTIONS_EACH = 16  # sockets of one person: the product takes twenty in each process
TOGETHER, MANY = 5_000, 20_000  # tasks that are put in at once; and from which on their indexes are made afterwards
SAMPLED = 5_000  # tasks that requests are made from
DONE_OF = 10  # one task in so many is done
WITH_WORD = 40  # tasks of a project that share a word
GENEROUS = "10000000/minute"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
VERBS = ("Mend", "Buy", "Count", "Clean", "Paint", "Order", "Carry", "Weigh", "Sort", "Plant")
THINGS = ("fence", "hay", "flour", "gate", "trough", "roof", "sacks", "milk", "eggs", "seed", "wire", "posts")
REST = "before the rain comes; ask Wanjiku at the market what she has left and what she wants for it this week"
COMMON = ("ploughed", "fallow")  # half of the tasks have one, half the other


@dataclass(frozen=True)
class Place:
    """Where a stack may keep its things: a folder, and databases that are its own."""

    folder: Path
    mongo_url: str
    redis_url: str
    database: str


@dataclass(frozen=True)
class Running:
    """A stack's servers. `pids` are the web servers' (parents of all their processes), `worker_pids` the workers'."""

    url: str
    pids: Sequence[int]
    versions: Mapping[str, str]
    worker_pids: Sequence[int] = ()
    stack: str = ""
    place: Place | None = None
    tasks_in: str = ""  # the Mongo database that holds the tasks
    key: bytes = b""  # the 32 private bytes of the Ed25519 key whose tokens it believes
    admin_password: str = ""  # of admin@msingi.test, where there is one already


@dataclass(frozen=True)
class Person:
    """Somebody who may come in. Without an address they have no account, and only follow."""

    id: str
    email: str = ""
    roles: tuple[str, ...] = ("user",)


@dataclass(frozen=True)
class Word:
    """A word to look for in a project, and how many tasks of it hold it: few, however many there are.

    One, since MongoDB's own text search, which the peers use, reads all tasks that hold any of several words.
    """

    project: str
    text: str
    found: int


@dataclass
class World:
    """What was planted, and who may see it."""

    running: Running
    size: int
    people: list[Person]
    admin: Person
    followers: list[Person]
    tasks: list[tuple[str, str]]  # ids of an open task and of its project
    open_tasks: dict[str, int]  # how many are open, by project
    words: list[Word]
    live_tasks: list[str]
    picture: bytes = field(repr=False)

    @staticmethod
    def of_nothing(running: Running) -> "World":
        """The world of a server that keeps nothing."""
        return World(running, 0, [], Person("nobody"), [], [], {}, [], [], b"")

    def token(self, person: Person, lifetime: int = 600) -> str:
        """An access token as our accounts sign them: no stack believes one for longer than ten minutes."""
        at = int(time.time())
        claims = tokens.Claims(
            iss=ISSUER,
            aud=tokens.audience_of(ISSUER),
            sub=person.id,
            sid=f"s-{person.id}",
            jti=secrets.token_hex(8),
            iat=at,
            nbf=at,
            exp=at + lifetime,
            amr=["pwd"],
            auth_time=at,
            roles=list(person.roles),
        )
        return tokens.sign(claims, tokens.SigningKey.from_bytes(self.running.key))

    def bearers(self) -> list[dict[str, str]]:
        """The header of each person."""
        return [{"authorization": f"Bearer {self.token(each)}"} for each in self.people]

    def versions(self, ids: Sequence[str]) -> dict[str, int]:
        """The versions that these tasks are at now."""
        place = _place(self.running)
        with MongoClient[Row](place.mongo_url) as mongo:
            rows = mongo[self.running.tasks_in]["tasks"].find({"_id": {"$in": list(ids)}}, {"version": 1})
            return {row["_id"]: int(row["version"]) for row in rows}


def _place(running: Running) -> Place:
    assert running.place is not None
    return running.place


def plant(running: Running, size: int, followers: int = 0) -> World:
    """Fill a stack that has just been started with `size` tasks and all else; so many more people to hold sockets."""
    place = _place(running)
    from_us = running.stack == "msingi"
    with MongoClient[Row](place.mongo_url, tz_aware=True) as mongo:
        people, admin = _ours(running) if from_us else _theirs(running, mongo)
        extra = [Person(f"f{number:05d}") for number in range(followers)]
        base = mongo[running.tasks_in]
        projects = [f"p{number:04d}" for number in range(max(1, -(-size // IN_PROJECT)))]
        for project in (*projects, LIVE):
            _plant_project(base, project, people, extra if project == LIVE else [], from_us)
        open_tasks: dict[str, int] = dict.fromkeys(projects, 0)
        counts: dict[tuple[str, str], int] = {}
        batch: list[Row] = []
        with _indexed_afterwards(base, size):
            for task in _tasks(size, projects, people[0].id):
                open_tasks[task.project_id] += task.status == "open"
                sought = task.title.rpartition(" ")[2]
                counts[task.project_id, sought] = counts.get((task.project_id, sought), 0) + 1
                batch.append(_row(task, from_us))
                if len(batch) == TOGETHER:
                    base["tasks"].insert_many(batch, ordered=False)
                    batch = []
            live = [_task(number, LIVE, people[0].id, f"live{number:03d}") for number in range(LIVE_TASKS)]
            base["tasks"].insert_many([*batch, *(_row(each, from_us) for each in live)], ordered=False)
    is_open = [number for number in range(size) if not _is_done(number // len(projects))]
    step = max(1, len(is_open) // SAMPLED)
    sampled = [(f"t{number:07d}", projects[number % len(projects)]) for number in is_open[::step]][:SAMPLED]
    return World(
        running=running,
        size=size,
        people=people,
        admin=admin,
        followers=[*people, *extra],
        tasks=sampled,
        open_tasks=open_tasks,
        words=[Word(project, text, found) for (project, text), found in counts.items()][:SAMPLED],
        live_tasks=[each.id for each in live],
        picture=picture(),
    )


# ---- tasks


@contextmanager
def _indexed_afterwards(base: Any, size: int) -> Iterator[None]:
    """Many tasks are put in without the stack's indexes, which are then made again as they were: that is faster."""
    if size < MANY:
        yield
        return
    made_by_server = ("v", "textIndexVersion")
    kept = [
        {name: value for name, value in index.items() if name not in made_by_server}
        for index in base["tasks"].list_indexes()
        if index["name"] != "_id_"
    ]
    base["tasks"].drop_indexes()
    yield
    base.command("createIndexes", "tasks", indexes=kept)


def _tasks(size: int, projects: Sequence[str], by: str) -> Iterator[Task]:
    for number in range(size):
        yield _task(number // len(projects), projects[number % len(projects)], by, f"t{number:07d}")


def _task(number: int, project: str, by: str, id: str) -> Task:
    """The task of this number in a project."""
    word, common = spoken(number // WITH_WORD), COMMON[number % 2]
    title = f"{VERBS[number % len(VERBS)]} {THINGS[number % len(THINGS)]} {word}"
    description = f"{common} {REST}"
    at, done = BEGAN + timedelta(seconds=number), _is_done(number)
    return Task(
        id=id,
        project_id=project,
        title=title,
        description=description,
        created_by=by,
        position=f"a{number:07d}",
        labels=["farm", common],
        status="done" if done else "open",
        completed_at=at if done else None,
        completed_by=by if done else None,
        created_at=at,
        updated_at=at,
        words=words_of(title, description),
        title_words=words_of(title),
    )


def _is_done(number: int) -> bool:
    return number % DONE_OF == DONE_OF - 1


def spoken(number: int) -> str:
    """A word that stands for a number: `kamoru`."""
    parts = []
    for _ in range(4):
        number, rest = divmod(number, 50)
        parts.append("kmrtnlswbj"[rest % 10] + "aeiou"[rest // 10])
    return "".join(reversed(parts))


OURS_ALONE = (
    "words",
    "title_words",
    "chain",
    "link",
    "chain_start",
)  # how we search and repeat: others have their ways


def _row(task: Task, from_us: bool) -> Row:
    row: Row = plain(task)
    return row if from_us else {name: value for name, value in row.items() if name not in OURS_ALONE}


def _plant_project(base: Any, project: str, people: Sequence[Person], extra: Sequence[Person], from_us: bool) -> None:
    base["projects"].insert_one(plain(Project(id=project, name=f"Project {project}", owner_id=people[0].id)))
    if from_us:
        base["graphs"].insert_one(plain(Graph(id=project)))
    rows = [
        Member(
            id=f"{project}:{each.id}",
            project_id=project,
            user_id=each.id,
            role="owner" if each is people[0] else "editor",
        )
        for each in (*people, *extra)
    ]
    base["members"].insert_many([plain(each) for each in rows])


# ---- people


def _ours(running: Running) -> tuple[list[Person], Person]:
    """People as an admin of ours makes them; and the limits of single routes as high as the general ones."""
    with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as admin:
        form = {"email": "admin@msingi.test", "password": running.admin_password}
        signed = admin.post("/v1/accounts/sign-in", json=form).raise_for_status().json()
        admin.headers["authorization"] = f"Bearer {signed['access_token']}"
        me = admin.get("/v1/accounts/me").raise_for_status().json()
        for limit in ("accounts_sign_in", "shop_add_picture"):
            admin.put(f"/v1/accounts/limits/{limit}", json={"limit": GENEROUS}).raise_for_status()
        people = []
        for number in range(PEOPLE):
            form = {"email": _email(number), "password": PASSWORD, "name": f"Person {number}"}
            made = admin.post("/v1/accounts/users", json=form).raise_for_status().json()
            people.append(Person(made["id"], _email(number)))
    return people, Person(me["id"], "admin@msingi.test", tuple(me["roles"]))


def _theirs(running: Running, mongo: "MongoClient[Row]") -> tuple[list[Person], Person]:
    """People as the peers keep them: an address, and the hash of a password."""
    from argon2 import PasswordHasher  # noqa: PLC0415

    hashed = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1).hash(PASSWORD)
    people = [Person(f"u{number:05d}", _email(number)) for number in range(PEOPLE)]
    admin = Person("admin", "admin@msingi.test", ("user", "admin"))
    rows = [
        {
            "_id": each.id,
            "email": each.email,
            "name": each.id,
            "password": hashed,
            "roles": list(each.roles),
            "disabled": False,
            "created_at": BEGAN,
        }
        for each in (*people, admin)
    ]
    base = mongo[running.tasks_in]
    base["users"].insert_many(rows)
    base["products"].insert_many([_product(number) for number in range(200)])
    return people, admin


def _email(number: int) -> str:
    return f"person{number}@bench.test"


def _product(number: int) -> Row:
    """A product as a shop's list shows it, about as long as those of our demonstration."""
    thing, before = THINGS[number % len(THINGS)], number % 4 == 0
    word = spoken(number)
    price = 10_000 + 350 * number
    return {
        "_id": f"g{number:025d}",
        "slug": f"{thing}-of-{word}-and-sons",
        "title": {
            "en": f"{thing.capitalize()} of {spoken(number)} and sons",
            "sw": f"{thing.capitalize()} {spoken(number)}",
        },
        "brand": spoken(number // 10).capitalize(),
        "category_id": "services",
        "tags": ["farm", "repair"],
        "picture": None,
        "price": {"amount": price, "currency": "KES"},
        "compare_at": {"amount": price + 5_000, "currency": "KES"} if before else None,
        "from_price": False,
        "variants": 1 + number % 3,
        "availability": "published",
        "created_at": BEGAN + timedelta(seconds=number),
    }


# ---- a picture


def picture(width: int = 1870, height: int = 1870) -> bytes:
    """A PNG of chance colours, which nothing can squeeze: ten million bytes and a little."""
    chance = random.Random(5)
    rows = b"".join(b"\0" + chance.randbytes(3 * width) for _ in range(height))
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in parts
    )


def new_key() -> bytes:
    """A key to sign tokens with, for a stack that has none of its own."""
    return Ed25519PrivateKey.generate().private_bytes_raw()
