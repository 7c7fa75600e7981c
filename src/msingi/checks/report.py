"""What came of a run, for people on a terminal or for programs as JSON."""

import json
import sys
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from msingi.checks.harness import Result

MARKS = {"passed": ("✓", "green"), "failed": ("✗", "bold red"), "skipped": ("–", "yellow"), "not offered": ("·", "dim")}


def show(name: str, url: str, results: Iterable[Result], as_json: bool) -> int:
    """Print each result as it comes, then the sum; returns the exit code."""
    seen = _as_json(name, url, results) if as_json else _as_text(name, url, results)
    return 1 if seen["failed"] or not seen.total() else 0


def show_cannot_run(name: str, url: str, reason: str, as_json: bool) -> int:
    """Say why nothing could be checked; returns the exit code for that."""
    if as_json:
        print(json.dumps({"suite": name, "url": url, "error": reason}))
    else:
        Console(stderr=True, soft_wrap=True).print(Text(f"msingi check {name}: {reason}", "red"))
    return 2


def _as_json(name: str, url: str, results: Iterable[Result]) -> "Counter[str]":
    listed = list(results)
    seen = Counter(result.outcome for result in listed)
    summary = {"passed": seen["passed"], "failed": seen["failed"], "skipped": seen["skipped"]}
    if seen["not offered"]:
        summary["not offered"] = seen["not offered"]
    told = {"suite": name, "url": url, "checks": [result.members for result in listed], "summary": summary}
    json.dump(told, sys.stdout, ensure_ascii=False, indent=2)
    print()
    return Counter(summary)


def _as_text(name: str, url: str, results: Iterable[Result]) -> "Counter[str]":
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble(("Checking ", ""), (name, "bold"), f" at {url}\n"))
    seen: Counter[str] = Counter()
    for result in results:
        seen[result.outcome] += 1
        _print(console, result)
    ending = f"{seen['passed']} passed, {seen['failed']} failed, {seen['skipped']} skipped"
    ending += f", {seen['not offered']} not offered" if seen["not offered"] else ""
    console.print()
    console.print(Text(ending, "bold red" if seen["failed"] else "bold green"))
    return seen


def _print(console: Console, result: Result) -> None:
    mark, colour = MARKS[result.outcome]
    slow = f"  ({result.seconds:.1f} s)" if result.seconds >= 1 else ""
    console.print(Text.assemble((f"{mark} ", colour), result.check, (slow, "dim")))
    if result.outcome in ("skipped", "not offered"):
        said = f"not offered: {result.hint}" if result.outcome == "not offered" else result.hint
        console.print(Text(f"    {said}", "dim"))
    if result.figure:
        console.print(Text(f"    {result.figure}", "dim"))
    if result.outcome == "failed":
        for word, text in (
            ("asked", result.asked),
            ("came", result.came),
            ("should", result.should),
            ("hint", result.hint),
        ):
            if text:
                console.print(Text.assemble((f"    {word:<7}", "bold"), text))
