"""What the last race says, as text, as the table of README, and as pictures, and what the last growth does, as tables
of docs/bench.md: `python -m bench report`.

The pictures are the charts that the console shows at `/bench`, drawn by the same templates and photographed in
Chromium: no other program that draws is needed.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup
from playwright.sync_api import Browser, sync_playwright

from msingi.console import figures
from msingi.console.figures import LIMITS, OURS, REFERENCE, Chart, Row, Run, number

ROOT = Path(__file__).parents[1]
README, IMAGES = ROOT / "README.md", ROOT / "docs" / "images"
CONSOLE = Path(figures.__file__).parent
NONE = "\nNo race has been kept yet.\n"
BENCH = ROOT / "docs" / "bench.md"
GROWN = ROOT / "bench" / "growth.json"  # what the last `python -m bench growth` kept
CHROMIUMS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
PAGE = """<!doctype html><html data-theme="light"><head><style>{{ style }}
body { width: 790px; margin: 0; padding: 16px; background: #fff; }</style></head>
<body>{% from "race_chart.html" import chart %}<figure class="chart"><figcaption>{{ drawing.title }}</figcaption>
{{ chart(drawing, kind) }}</figure></body></html>"""


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="bench report", description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, default=figures.LAST, help="the figures of a race")
    parser.add_argument("--no-pictures", action="store_true", help="only the table of README")
    options = parser.parse_args(arguments)
    run = figures.read(options.source)
    if run is None:
        print(f"There is no {options.source}: make bench ARGS='race --json bench/last.json'", file=sys.stderr)
        return 2
    README.write_text(with_table(README.read_text("utf-8"), run), "utf-8")
    BENCH.write_text(with_growth(BENCH.read_text("utf-8")), "utf-8")
    if not options.no_pictures:
        draw(run, IMAGES)
    print(text(run))
    return 0


# ---- the tables


def with_table(readme: str, run: Run | None) -> str:
    """README with the table of this run between its markers. Raises ValueError if they are not there."""
    return _between(readme, "race", table(run) if run else NONE)


def with_growth(page: str) -> str:
    """A page with the tables of the last growth between its markers. Raises ValueError if they are not there."""
    told = growth_tables(msgspec.json.decode(GROWN.read_bytes())) if GROWN.is_file() else "None has been kept yet."
    return _between(page, "growth", f"\n{told}\n")


def _between(page: str, what: str, told: str) -> str:
    before, begin, rest = page.partition(f"<!-- {what}: begin -->\n")
    _, end, after = rest.partition(f"<!-- {what}: end -->")
    if not end:
        raise ValueError(f"nothing says where the figures of the {what} go")
    return f"{before}{begin}{told}\n{end}{after}"


def table(run: Run) -> str:
    """A table for each number of web processes, and what has to be known to read it."""
    options = run.options
    parts = [
        f"Measured on {run.at:%Y-%m-%d} ({run.machine}): requests a second, the median of {options['rounds']} "
        f"rounds in turns over {options['connections']} connections, all on one MongoDB and one Redis; ± is half of "
        "the distance between the fastest and the slowest round. The limit is what the machine allows without us: a "
        "server without a framework, and the database driver alone."
    ]
    if run.noise:
        parts.append(f"**The machine was too noisy to decide by these figures**: {'; '.join(run.noise)}.")
    for count in figures.counts(run):
        parts += [f"Web processes: {count}", _table(run, count)]
    parts.append(_memory(run))
    if run.left_out:
        parts.append("Left out: " + "; ".join(_left_out(run, each) for each in run.left_out) + ".")
    return "\n\n".join(["", *parts, ""])


def _left_out(run: Run, each: figures.LeftOut) -> str:
    where = f" with {each.processes} web processes" if each.processes else ""
    return f"{run.stacks.get(each.stack, each.stack)}{where} ({_plain(each.reason)})"


def _plain(reason: str) -> str:
    return " ".join(reason.split()).replace("|", "/")[:200]


def _table(run: Run, count: int) -> str:
    """Stacks side by side; behind them what the machine allows, and how many times as fast ours is as others."""
    rows = run.of(count)
    measured = {row.stack for row in rows}
    names = [name for name in run.stacks if name in measured and name not in LIMITS]
    beside = [to for to in (REFERENCE,) if to in names and OURS in names]
    has_limit = OURS in names and not measured.isdisjoint(LIMITS)
    head = ["", *(run.stacks[name] for name in names), *(f"{run.stacks[OURS]} ÷ {run.stacks[to]}" for to in beside)]
    head += ["the limit", f"{run.stacks[OURS]} ÷ the limit"] if has_limit else []
    lines = []
    for several in figures.by_workload(rows).values():
        first, found = several[0], {row.stack: row for row in several}
        ours = found.get(OURS)
        cells = [first.title, *(_cell(found.get(name)) for name in names), *(_ratio(run, ours, to) for to in beside)]
        cells += [_cell(run.row(first, *LIMITS)), _ratio(run, ours, *LIMITS)] if has_limit else []
        lines.append(cells)
    return _markdown(head, lines)


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]], names: int = 1) -> str:
    """A table whose first columns are `names`, and whose others are figures."""
    rules = "|" + "---|" * names + "---:|" * (len(head) - names)
    first, *others = ("| " + " | ".join(cells) + " |" for cells in (head, *lines))
    return "\n".join([first, rules, *others])


def _cell(row: Row | None) -> str:
    return f"{number(row.rate)} ± {row.spread / 2:.0%}" if row else ""


def _ratio(run: Run, ours: Row | None, *stacks: str) -> str:
    found = run.ratio(ours, *stacks) if ours else None
    return f"**{found:.2f}**" if found else ""


def _memory(run: Run) -> str:
    """Megabytes of the web processes, before and after all that was asked."""
    told = [
        f"{run.stacks[each.stack]} with {each.processes}: {number(each.at_rest)} and {number(each.loaded)} MB"
        + (f" (and {number(each.workers)} of its workers)" if each.workers else "")
        for each in run.memory
    ]
    return f"Memory of the web processes at rest and after the load: {'; '.join(told)}."


def growth_tables(kept: dict[str, Any]) -> str:
    """What `python -m bench growth` kept: its documents, its connections and its sockets, as far as they are there."""
    parts = [f"Measured on {kept['at']} ({kept['machine']}), one web process."]
    parts += [_steps(kept["data"], "size", "documents")] if kept.get("data") else []
    parts += [_steps(kept["connections"], "connections", "connections")] if kept.get("connections") else []
    parts += [_sockets(kept["sockets"])] if kept.get("sockets") else []
    return "\n\n".join(parts)


def by_workload(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Those of each workload, in the order in which they were asked."""
    names = dict.fromkeys(row["workload"] for row in rows)
    return [[row for row in rows if row["workload"] == name] for name in names]


def ratio(rows: Sequence[dict[str, Any]]) -> float:
    """How many times as fast the first is as the last."""
    first, last = (statistics.median(row["rates"]) for row in (rows[0], rows[-1]))
    return first / last


def _steps(rows: Sequence[dict[str, Any]], by: str, what: str) -> str:
    """Requests a second of each workload, side by side for each size or number of connections."""
    more = ["the fewest ÷ the most", "documents read, at most"] if by == "size" else []
    steps = dict.fromkeys(row[by] for row in rows)
    head = [f"requests a second, by {what}", *(f"{step:,}" for step in steps), *more]
    lines = []
    for several in by_workload(rows):
        cells = [several[0]["title"], *(number(statistics.median(row["rates"])) for row in several)]
        cells += [f"{ratio(several):.2f}", str(max(row["read"] for row in several))] if more else []
        lines.append(cells)
    return _markdown(head, lines)


def _sockets(rows: Sequence[dict[str, Any]]) -> str:
    head = ["sockets", "until the last has heard, ms (p99)", "server for each socket, µs", "memory of a socket, kB"]
    lines = [
        [
            f"{row['sockets']:,}",
            f"{number(row['latencies']['p50'])} ({number(row['latencies']['p99'])})",
            number(row["server_us"]),
            number(row["kilobytes"]),
        ]
        for row in rows
    ]
    return _markdown(head, lines, names=0)


# ---- the same for a terminal


def text(run: Run) -> str:
    """Every figure, a line for each workload and stack."""
    lines = [f"{run.at:%Y-%m-%d %H:%M} UTC, {run.machine}"]
    for count in figures.counts(run):
        head = (
            f"\n{'web processes: ' + str(count):<46}{'stack':<22}{'a second':>10}{'spread':>8}{'CPU ms':>9}{'DB ms':>8}"
        )
        lines.append(f"{head}{'p50':>9}{'p99':>9} ms at{'':>7}")
        lines += [_line(run, row) for row in run.of(count)]
    for each in run.memory:
        lines.append(
            f"{run.stacks[each.stack]}, {each.processes}: {each.at_rest:.0f} MB at rest, {each.loaded:.0f} after"
        )
    lines += [f"Left out: {_left_out(run, each)}" for each in run.left_out]
    return "\n".join(lines + [f"TOO NOISY: {reason}" for reason in run.noise])


def _line(run: Run, row: Row) -> str:
    database = number(sum(row.database_ms) / len(row.database_ms)) if row.database_ms else ""
    told = f"{row.title:<46}{run.stacks[row.stack]:<22}{number(row.rate):>10}{row.spread:>8.0%}"
    told += f"{number(row.cpu) if row.cpu is not None else '':>9}{database:>8}"
    p50, p99 = (number(row.latencies[part]) if row.latencies else "" for part in ("p50", "p99"))
    asked = f"{number(row.asked)}/s" if row.asked else ""
    return f"{told}{p50:>9}{p99:>9}{asked:>12}"


# ---- pictures


def draw(run: Run, folder: Path) -> None:
    """`race-rates-1.png`, `race-latencies-1.png` and so on."""
    with sync_playwright() as playwright:
        found = next((path for path in CHROMIUMS if Path(path).exists()), None)
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        for count in figures.counts(run):
            for kind, make in (("rates", figures.rates), ("latencies", figures.latencies)):
                for drawing in make(run, count)[:1]:
                    photograph(browser, drawing, kind, folder / f"race-{kind}-{count}.png")
        browser.close()


def photograph(browser: Browser, drawing: Chart, kind: str, path: Path) -> None:
    page = browser.new_page(viewport={"width": 822, "height": 400})
    page.set_content(html(drawing, kind))
    page.screenshot(path=path, full_page=True)
    page.close()


def html(drawing: Chart, kind: str) -> str:
    """One chart on a page of its own."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(CONSOLE / "templates"), autoescape=True)
    styles = [(CONSOLE / "static" / name).read_text("utf-8") for name in ("shell.css", "content.css", "race.css")]
    style = Markup("\n".join(styles))
    return environment.from_string(PAGE).render(drawing=drawing, kind=kind, style=style)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
