"""The catalogue among ten thousand goods, a hundred thousand and a million: pages, lists, searches, and their plans.

Each size has a database and a web process of its own, all on one mongod, so that rounds go from one size to the next
and a noisy minute hits all of them. What is `kept` is the same address again; of the others no address comes twice in
a round, and before each round all that was kept is made stale.
"""

import os
import random
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import httpx
from pymongo import MongoClient
from redis import Redis
from tests.serving import Served, serving

from msingi import cli
from msingi.kit import embedded
from msingi.kit.db import packed

Row = dict[str, Any]
Progress = Callable[[str], None]
SHOP = "/v1/shop"
SAMPLED = 12_000  # goods that addresses are made from; the smallest shop has fewer
EXPLAINED = 8  # addresses of each kind whose finds are looked at
CONNECTIONS = 8
COUNTED = 1000  # goods whose facets are counted, however many there are
LUA = """
local asked, at = {{}}, 0
init = function()
  for path in io.lines("{file}") do asked[#asked + 1] = wrk.format("GET", path) end
end
request = function()
  at = at % #asked + 1
  return asked[at]
end
"""


class Kind(NamedTuple):
    """A kind of address: what it is called, how one is made from a product, and whether its answers are kept."""

    name: str
    make: Callable[[Row], str]
    kept: bool = False
    counts: bool = False  # it reads COUNTED goods and shows none


class Place(NamedTuple):
    """The shop of one size."""

    size: int
    served: Served
    files: dict[str, Path]  # a file of addresses for each kind


class Reading(NamedTuple):
    """One kind of address: requests a second by size, by round; and the documents of the worst find by size."""

    name: str
    rates: dict[int, list[float]]
    examined: dict[int, str]

    def median(self, size: int) -> float:
        return statistics.median(self.rates[size])

    @property
    def flat(self) -> float:
        """How many times faster the fastest size is than the slowest."""
        medians = [self.median(size) for size in self.rates]
        return max(medians) / max(min(medians), 0.01)


def _listed(**query: Any) -> str:
    return f"{SHOP}/products?{urlencode(query)}"


def _first_words(row: Row) -> list[str]:
    """Its quality, the first word of what it is, and its town: `Fine Maize flour of Kisumu`."""
    words: list[str] = re.findall(r"\w+", row["title"]["en"].lower())
    return [words[0], words[1], words[-1]]


KINDS = [
    Kind("product page, kept", lambda row: f"{SHOP}/products/{row['_id']}", kept=True),
    Kind("product page", lambda row: f"{SHOP}/products/{row['_id']}"),
    Kind("first page of a category, kept", lambda row: _listed(category=row["category_id"], limit=24), kept=True),
    Kind(
        "page of a category, newest",
        lambda row: _listed(category=row["category_id"], limit=24, after=packed("-1_id", row["_id"], row["_id"])),
    ),
    Kind(
        "page of a category, by price",
        lambda row: _listed(
            category=row["category_id"],
            sort="price",
            limit=24,
            after=packed("1lowest.KES", row["lowest"]["KES"], row["_id"]),
        ),
    ),
    Kind(
        "page of a category, most sold",
        lambda row: _listed(
            category=row["category_id"], sort="-sold", limit=24, after=packed("-1rank", row["rank"], row["_id"])
        ),
    ),
    Kind(
        "category, from a price on, by price",
        lambda row: _listed(
            **{"category": row["category_id"], "price[gte]": row["lowest"]["KES"], "sort": "price", "limit": 24}
        ),
    ),
    Kind(
        "category and tag, most sold",
        lambda row: _listed(
            category=row["category_id"],
            tag=row["tags"][0],
            sort="-sold",
            limit=24,
            after=packed("-1rank", row["rank"], row["_id"]),
        ),
    ),
    Kind("search, two words of a title", lambda row: _listed(q=" ".join(_first_words(row)[:2]), limit=24)),
    Kind("search, a word and a town", lambda row: _listed(q=" ".join(_first_words(row)[1:]), limit=24)),
    Kind(
        "search, a word and a town, by price",
        lambda row: _listed(q=" ".join(_first_words(row)[1:]), limit=24, sort="price"),
    ),
    Kind(
        "facets of a category, kept",
        lambda row: f"{SHOP}/products/facets?category={row['category_id']}",
        kept=True,
        counts=True,
    ),
    Kind(
        "facets of a search",
        lambda row: f"{SHOP}/products/facets?{urlencode({'q': ' '.join(_first_words(row)[1:])})}",
        counts=True,
    ),
]


# ---- goods


def prepare(
    stack: ExitStack, servers: embedded.Servers, folder: Path, sizes: Sequence[int], progress: Progress
) -> list[Place]:
    """Plant each size, and serve it."""
    places = []
    for number, size in enumerate(sizes):
        database, url = f"bench{size}", f"{servers.redis_url.rsplit('/', 1)[0]}/{number + 2}"
        own = {"MSINGI_DATABASE": database, "MSINGI_ENV": "development", "MSINGI_SECRET": "b" * 43}
        _plant({**os.environ, **own, "MONGO_URL": servers.mongo_url, "REDIS_URL": url}, size, progress)
        house = serving(
            folder / database,
            servers.mongo_url,
            url,
            products=("accounts", "shop"),
            parts=("web",),
            empty=False,
            MSINGI_PROCESSES="1",
            MSINGI_LOG_LEVEL="error",
            **own,
        )
        served = stack.enter_context(house)
        places.append(Place(size, served, _addresses(served, folder / database, size)))
    return places


def _plant(environ: dict[str, str], size: int, progress: Progress) -> None:
    """`msingi seed shop --size …`, and meanwhile how far it is."""
    done = threading.Event()

    def watch() -> None:
        with MongoClient[Row](environ["MONGO_URL"]) as mongo:
            goods = mongo[f"{environ['MSINGI_DATABASE']}_shop"]["products"]
            while not done.wait(15):
                there = goods.estimated_document_count()
                progress(f"planting {size:,} goods: {there:,}" + (", and their indexes" if there >= size else ""))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        subprocess.run(cli.ours("seed", "shop", "--size", str(size)), env=environ, check=True, capture_output=True)
    finally:
        done.set()
        watching.join()
    progress(f"planted {size:,} goods")


def _addresses(served: Served, folder: Path, size: int) -> dict[str, Path]:
    """A file of addresses for each kind, made from goods that are drawn by chance, the same ones in each run."""
    drawn = random.Random(size).sample(range(size), min(size, SAMPLED))
    fields = {"title": 1, "category_id": 1, "tags": 1, "rank": 1, "lowest": 1}
    with served.mongo as mongo:
        goods = mongo[f"{served.settings.database}_shop"]["products"]
        rows = list(goods.find({"_id": {"$in": [f"g{number:08}" for number in drawn]}}, fields))
    random.Random(size).shuffle(rows)
    rows = [row for row in rows if row["tags"]]
    files = {}
    for number, kind in enumerate(KINDS):
        paths = list(dict.fromkeys(kind.make(row) for row in (rows[:1] if kind.kept else rows)))
        files[kind.name] = folder / f"kind{number}.txt"
        files[kind.name].write_text("\n".join(paths) + "\n")
    return files


# ---- how fast


def measure(places: Sequence[Place], rounds: int, seconds: int, progress: Progress) -> list[Reading]:
    """Rounds of all kinds, size after size, after one that does not count; and what the finds of each examine."""
    readings = [Reading(kind.name, {place.size: [] for place in places}, {}) for kind in KINDS]
    for turn in range(rounds + 1):
        for kind, reading in zip(KINDS, readings, strict=True):
            for place in places:
                rate = _rate(place, kind, seconds if turn else 1)
                if turn:
                    reading.rates[place.size].append(rate)
        progress(f"catalogue: round {turn} of {rounds}")
    for kind, reading in zip(KINDS, readings, strict=True):
        for place in places:
            reading.examined[place.size] = examined(place, kind)
    return readings


def _rate(place: Place, kind: Kind, seconds: int) -> float:
    """Requests a second, all answered with 200."""
    script = place.files[kind.name].with_suffix(".lua")
    script.write_text(LUA.format(file=place.files[kind.name]))
    if not kind.kept:
        _forget(place.served)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), place.served.url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if "Non-2xx" in said or "Socket errors" in said or not found:
        raise SystemExit(f"{kind.name}, {place.size:,} goods: wrong answers:\n{said}{place.served.logs()[-2000:]}")
    _let_finish(place)
    return float(found[1])


def _let_finish(place: Place) -> None:
    """What wrk left behind, when its time was over, is still being answered: it must not be in the way of the next."""
    goods = f"{place.served.settings.database}_shop.products"
    busy: list[Row] = [{"$currentOp": {}}, {"$match": {"ns": goods, "active": True}}, {"$limit": 1}]
    quiet, end = 0, time.monotonic() + 30
    with place.served.mongo as mongo:
        while quiet < 3 and time.monotonic() < end:
            quiet = 0 if list(mongo.admin.aggregate(busy)) else quiet + 1
            time.sleep(0.03)


def _forget(served: Served) -> None:
    """Let nothing that is kept be read any more, as kit.cache.forget_everything does."""
    with Redis.from_url(served.settings.redis_url) as redis:
        redis.set("tag:everything", os.urandom(9).hex(), ex=86_400)


# ---- what it reads


def examined(place: Place, kind: Kind) -> str:
    """What the finds of one request examine at most, as the database's profiler has it: `24 documents, 31 keys`.

    With `!` behind it if that is more documents than are shown, and one to know whether there are more.
    """
    paths = place.files[kind.name].read_text().split("\n")[:EXPLAINED]
    worst, keys, too_many = 0, 0, False
    with place.served.mongo as mongo, httpx.Client(base_url=place.served.url, timeout=60, trust_env=False) as http:
        shop = mongo[f"{place.served.settings.database}_shop"]
        for path in filter(None, paths):
            _forget(place.served)
            shop["system.profile"].drop()
            shop.command("profile", 2)
            try:
                shown = _shown(http, path, kind)
            finally:
                shop.command("profile", 0)
            told = list(shop["system.profile"].find({"ns": f"{shop.name}.products"}))
            documents = sum(each.get("docsExamined", 0) for each in told)
            worst, keys = max(worst, documents), max(keys, sum(each.get("keysExamined", 0) for each in told))
            scans = any("COLLSCAN" in each.get("planSummary", "") for each in told)
            too_many |= scans or not told or documents > shown + 1
    return f"{worst} of {keys}{'!' if too_many else ''}"


def _shown(http: httpx.Client, path: str, kind: Kind) -> int:
    """How many goods an answer is made from, or may be."""
    data = http.get(path).raise_for_status().json()
    if kind.counts:
        return COUNTED
    return len(data["items"]) if urlsplit(path).query else 1
