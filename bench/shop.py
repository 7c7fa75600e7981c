"""What the shop takes, beside each other in one run: `make bench ARGS=shop`.

Orders from an empty cart to the confirmed order, over HTTP, with the stand-in of M-Pesa to pay; the catalogue among ten
thousand goods, a hundred thousand and a million; how soon a change of an order is on a screen; and what memory all of
it takes. Everything, whoever asks too, shares this machine's cores, so absolute figures are this machine's: what counts
are ratios.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from tests.serving import Served, serving

from bench import meter, shop_lists, shop_live
from bench.meter import percentile
from bench.race import numbers, progress
from bench.shop_buyers import Market, Shopping, order_unpaid, shop
from msingi import cli, preflight
from msingi.kit import embedded

PARTS = ("checkout", "catalogue")
DEAREST, HEAVIEST = 100_000_00, 9_000  # minor units, grams: what a phone can pay and a rider can carry
GOODS = 200
IN_STOCK = 1_000_000
Row = dict[str, Any]


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="bench shop", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    parser.add_argument("--buyers", type=numbers, default=[1, 16, 64], help="at once: 1,16,64")
    parser.add_argument("--sizes", type=numbers, default=[10_000, 100_000, 1_000_000], help="goods: 10000,100000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shopping", type=int, default=5, help="seconds of each kind of buying, in a round")
    parser.add_argument("--reading", type=int, default=2, help="seconds of each kind of reading, in a round")
    parser.add_argument("--changes", type=int, default=200, help="of orders, to see how soon they are on a screen")
    parser.add_argument("--cache-mb", type=int, help="of MongoDB's own cache; 256 is what `make up` has")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    if not shutil.which("wrk"):
        print("bench needs wrk: apt-get install wrk", file=sys.stderr)
        return 2
    report: Row = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running, nor any data
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = embedded.start(folder / "data")
        stack.callback(servers.release)
        if options.cache_mb:
            set_cache(servers, options.cache_mb)
        if options.only != "catalogue":
            report |= measure_checkout(servers, folder, options)
        if options.only != "checkout":
            report["catalogue"] = measure_catalogue(servers, folder, options)
    return finished(report, options)


def set_cache(servers: embedded.Servers, megabytes: int) -> None:
    with MongoClient[Row](servers.mongo_url) as mongo:
        mongo.admin.command({"setParameter": 1, "wiredTigerEngineRuntimeConfig": f"cache_size={megabytes}MB"})


# ---- orders


def measure_checkout(servers: embedded.Servers, folder: Path, options: argparse.Namespace) -> Row:
    """The whole house, as `make up` starts it: what it takes at rest, orders, and what it takes then."""
    with ExitStack() as stack:
        served, bank = stack.enter_context(the_house(servers, folder))
        market = the_market(served)
        progress(f"the house is up, with {len(market.variants)} goods to buy")
        rest = memory(served, bank, servers)
        # A process of its own: what the bench does beside would be told as the house's slowness.
        beside = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
        pids = [served.running["web"].pid, served.running["worker"].pid]
        orders = measure_orders(beside, market, options, pids)
        report: Row = {"orders": orders, "live": measure_live(beside, market, served, options.changes)}
        report["memory"] = {"at rest": rest, "after the load": memory(served, bank, servers)}
        progress("asking `msingi verify shop`")
        report["verify"] = verified(served)
    return report


@contextmanager
def the_house(servers: embedded.Servers, folder: Path) -> Iterator[tuple[Served, int]]:
    """All products on two web processes and a worker, and the stand-in of those who move money; its process id."""
    port = preflight.free_port("127.0.0.1")
    command = [sys.executable, "-m", "msingi.kit.payments.sandbox", "--port", str(port), "--accept-after", "0"]
    sandbox = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with serving(
            folder / "house",
            servers.mongo_url,
            f"{servers.redis_url.rsplit('/', 1)[0]}/1",
            MSINGI_DATABASE="bench",
            MSINGI_ENV="development",
            MSINGI_LOG_LEVEL="error",
            MSINGI_SHOP_SANDBOX_URL=f"http://127.0.0.1:{port}",
        ) as served:
            yield served, sandbox.pid
    finally:
        sandbox.terminate()
        sandbox.wait(20)


def the_market(served: Served) -> Market:
    """Something of each of GOODS goods, so much of it in stock that it does not run out."""
    database = served.settings.database
    with served.mongo as mongo:
        kept = mongo[f"{database}_shop"]
        tracked = set(kept["stocks"].distinct("variant_id", {"location_id": "nairobi"}))
        goods = list(kept["products"].find({"availability": "published"}, {"variants": 1}, sort=[("_id", 1)]))
    fitting = [[each["id"] for each in good["variants"] if each["id"] in tracked and _is_handy(each)] for good in goods]
    variants = [ids[0] for ids in fitting if ids][:GOODS]
    with served.sign_in("admin") as admin:
        for variant in variants:
            path, key = f"/v1/shop/stock/{variant}/nairobi/receipts", {"Idempotency-Key": variant}
            form = {"quantity": IN_STOCK, "reason": "bench"}
            admin.post(path, json=form, headers=key).raise_for_status()
    return Market(served.url, served.settings.mongo_url, database, variants)


def _is_handy(variant: Row) -> bool:
    price, weight = int(variant["prices"].get("KES", 0)), int(variant["weight"])
    return 0 < price <= DEAREST and weight <= HEAVIEST


def measure_orders(
    beside: ProcessPoolExecutor, market: Market, options: argparse.Namespace, pids: Sequence[int]
) -> list[Row]:
    """Buyers at once, on one of the goods and on all; the last kind does not wait for the money.

    Between two of them the house is left to finish what follows from orders: it is not the next ones' to wait for.
    """
    alone = market._replace(variants=market.variants[:1])
    kinds = [(places, buyers, True) for places in (alone, market) for buyers in options.buyers]
    kinds.append((market, max(options.buyers), False))
    found: list[list[Shopping]] = [[] for _ in kinds]
    beside.submit(shop, market, 8, 4.0, waits=True).result()
    for turn in range(options.rounds):
        for seen, (places, buyers, waits) in zip(found, kinds, strict=True):
            meter.settle(pids)
            seen.append(beside.submit(shop, places, buyers, float(options.shopping), waits=waits).result())
        progress(f"orders: round {turn + 1} of {options.rounds}")
    return [_order_row(*kind, seen) for kind, seen in zip(kinds, found, strict=True)]


def _order_row(market: Market, buyers: int, waits: bool, seen: list[Shopping]) -> Row:
    """Medians of the rounds; times over all of them."""
    times = {name: [took for each in seen for took in getattr(each, name)] for name in ("checkout", "confirming")}
    placed = [each.placed / each.seconds for each in seen]
    # Who does not wait is done before the house is: then it counts until the last is confirmed.
    confirmed = [each.confirmed / each.seconds if waits else len(each.confirming) / each.drained for each in seen]
    wrong: Counter[str] = sum((each.statuses for each in seen), Counter())
    return {
        "goods": len(market.variants),
        "buyers": buyers,
        "waits": waits,
        "placed": statistics.median(placed),
        "confirmed": statistics.median(confirmed),
        "placed_by_round": placed,
        **{f"{name}_p{part}": percentile(took, part) * 1000 for name, took in times.items() for part in (50, 99)},
        "client_load": statistics.median(each.load for each in seen),
        "wrong": dict(wrong),
    }


def measure_live(beside: ProcessPoolExecutor, market: Market, served: Served, changes: int) -> list[Row]:
    """How soon those who follow the board of orders see that one was cancelled: one of them, and twenty."""
    with served.sign_in("admin") as admin:
        token = admin.headers["authorization"].removeprefix("Bearer ")
    found = []
    for followers in (1, 20):
        ids = beside.submit(order_unpaid, market, changes).result()
        seen = beside.submit(shop_live.measure, served.url, token, ids, followers).result()
        found.append({"followers": followers, **seen.rows()})
        progress(f"live: {changes} changes, {followers} who follow")
    return found


def verified(served: Served) -> str:
    """What `msingi verify shop` says once the worker has written down all that happened."""
    command = cli.ours("verify", "shop")

    def asked() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, env=served.environ, capture_output=True, text=True, timeout=300)

    told = asked()
    if told.returncode:
        time.sleep(10)
        told = asked()
    return "clean" if told.returncode == 0 else told.stdout[-2000:] + told.stderr[-2000:]


# ---- memory


def memory(served: Served, bank: int, servers: embedded.Servers) -> dict[str, tuple[float, float]]:
    """What each process takes: its RSS, and its PSS, in which what several share counts once. In MB."""
    web = served.running["web"].pid
    named = {"web server, parent": web, "worker": served.running["worker"].pid, "payment sandbox": bank}
    named |= {f"web process {number}": pid for number, pid in enumerate(served.web_processes(), 1)}
    named |= {"MongoDB": servers.pids["mongo"], "Redis": servers.pids["redis"]}
    found = {}
    for name, pid in named.items():
        taken = psutil.Process(pid).memory_full_info()
        found[name] = (taken.rss / 2**20, taken.pss / 2**20)
    return found


# ---- the catalogue


def measure_catalogue(servers: embedded.Servers, folder: Path, options: argparse.Namespace) -> list[Row]:
    """Reading among so many goods, size beside size."""
    with ExitStack() as stack:
        places = shop_lists.prepare(stack, servers, folder, options.sizes, progress)
        readings = shop_lists.measure(places, options.rounds, options.reading, progress)
    return [{"what": each.name, "flat": each.flat, "rates": each.rates, "examined": each.examined} for each in readings]


# ---- what comes of it


def finished(report: Row, options: argparse.Namespace) -> int:
    """Print it, write it, and say 1 if anything was wrong."""
    print()
    shows: dict[str, Callable[[Any], None]] = {
        "orders": show_orders,
        "live": show_live,
        "memory": show_memory,
        "catalogue": show_catalogue,
    }
    for part, show in shows.items():
        if part in report:
            show(report[part])
            print()
    wrong = faults(report)
    print(
        "\n".join(wrong)
        if wrong
        else "All answers were right; no find of the catalogue read more goods than are shown."
    )
    if "verify" in report:
        print(f"verify shop: {report['verify']}")
    if options.json:
        about = {name: version(name) for name in ("litestar", "granian", "pymongo", "msgspec")}
        report |= {
            "at": datetime.now(UTC).isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "versions": about,
            "options": {name: value for name, value in vars(options).items() if name != "json"},
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(bool(wrong) or report.get("verify", "clean") != "clean")


def faults(report: Row) -> list[str]:
    found = [
        f"{row['buyers']} buyers, {row['goods']} goods: {count} x {what}"
        for row in report.get("orders", ())
        for what, count in row["wrong"].items()
    ]
    found += [
        f"{row['what']}, {size:,} goods: finds read more goods than the page shows ({told})"
        for row in report.get("catalogue", ())
        for size, told in row["examined"].items()
        if told.endswith("!")
    ]
    return found + [
        f"{row['missed']} of {row['changes']} changes never came" for row in report.get("live", ()) if row["missed"]
    ]


def show_live(rows: list[Row]) -> None:
    print(f"{'from a change of an order to a screen':<38}{'from the write: p50':>20}{'p99':>8}", end="")
    print(f"{'from the request: p50':>23}{'p99':>8}{'missed':>8}")
    for row in rows:
        print(f"{'the last of ' + str(row['followers']) + ' who follow':<38}", end="")
        print(f"{row['since_write_p50_ms']:>17.1f} ms{row['since_write_p99_ms']:>5.0f} ms", end="")
        print(f"{row['since_request_p50_ms']:>20.1f} ms{row['since_request_p99_ms']:>5.0f} ms{row['missed']:>8}")


def show_orders(rows: list[Row]) -> None:
    cores = os.cpu_count()
    print(f"orders (web x 2, worker, payment sandbox, MongoDB, Redis and the buyers share {cores} cores)")
    print(f"{'':<38}{'placed/s':>9}{'confirmed/s':>12}{'checkout p50':>14}{'p99':>8}", end="")
    print(f"{'confirmed after p50':>21}{'p99':>8}{'wrong':>7}{'buyers take':>13}")
    for row in rows:
        who = f"{row['buyers']} buyers, {'one product' if row['goods'] == 1 else str(row['goods']) + ' products'}"
        print(f"{who + ('' if row['waits'] else ', not waiting'):<38}", end="")
        print(f"{row['placed']:>9.1f}{row['confirmed']:>12.1f}", end="")
        print(f"{row['checkout_p50']:>11.0f} ms{row['checkout_p99']:>5.0f} ms", end="")
        print(f"{row['confirming_p50']:>18.0f} ms{row['confirming_p99']:>5.0f} ms", end="")
        print(f"{sum(row['wrong'].values()):>7}{row['client_load']:>8.0%} core")


def show_memory(found: dict[str, dict[str, tuple[float, float]]]) -> None:
    moments = list(found)
    print(f"{'memory in MB, RSS (PSS)':<38}" + "".join(f"{moment:>24}" for moment in moments))
    for name in found[moments[0]]:
        cells = (f"{found[moment][name][0]:.0f} ({found[moment][name][1]:.0f})" for moment in moments)
        print(f"{name:<38}" + "".join(f"{cell:>24}" for cell in cells))


def show_catalogue(rows: list[Row]) -> None:
    sizes = list(rows[0]["rates"])
    print("catalogue, requests/s of one web process, and the goods read of the keys walked by the worst request")
    print(f"{'among so many goods':<40}" + "".join(f"{size:>12,}{'':>16}" for size in sizes) + f"{'1 : ':>10}")
    for row in rows:
        print(f"{row['what']:<40}", end="")
        for size in sizes:
            print(f"{statistics.median(row['rates'][size]):>12.0f}{row['examined'][size]:>16}", end="")
        print(f"{row['flat']:>10.2f}")
    spread = max(
        (max(rates) - min(rates)) / max(statistics.median(rates), 0.01)
        for row in rows
        for rates in row["rates"].values()
    )
    print(f"Rounds of one kind differ by up to {spread:.0%}.")
