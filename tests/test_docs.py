"""What README and docs claim is read back: links, commands, addresses, settings, decisions, codes."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.serving import Served

import msingi
from msingi import catalog, cli
from msingi.kit import config
from msingi.kit.errors import Problem, code_of

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("README.md")])
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    found = LINK.findall(page.read_text())
    for link in found:
        place, _, part = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if part:
            assert part in {anchor(line) for line in target.read_text().splitlines() if line.startswith("#")}, link


def anchor(heading: str) -> str:
    """How a heading is linked to."""
    words = re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower())
    return words.replace(" ", "-")


@each_page
def test_every_make_target_and_command_exists(page: Path) -> None:
    text = code_of_page(page)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", text)) <= targets
    assert set(re.findall(r"\bmsingi ([a-z]+)\b", text)) <= set(cli.main.commands)


def code_of_page(page: Path) -> str:
    """What stands in a page as code: indented, fenced, or between backticks."""
    text = page.read_text()
    indented = re.findall(r"^    .*$", text, re.MULTILINE)
    return "\n".join([*re.findall(r"```.*?```", text, re.DOTALL), *re.findall(r"`[^`\n]+`", text), *indented])


@pytest.mark.parametrize("name", catalog.NAMES)
def test_every_file_that_a_products_readme_names_exists(name: str) -> None:
    folder = ROOT / "src/msingi/products" / name
    named = re.findall(r"`((?:[\w]+/)*[\w.]+\.(?:py|txt|html))`", (folder / "README.md").read_text())
    assert [each for each in named if not (folder / each).exists()] == []


def test_make_lists_its_targets_and_each_is_described() -> None:
    text = (ROOT / "Makefile").read_text()
    declared = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert declared
    described = set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))
    assert described == set(declared[1].split())


def test_every_fixed_address_in_the_readme_answers(served: Served) -> None:
    table = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `/")]
    addresses = [address for line in table for address in re.findall(r"`(/[^`]*)`", line.split("|")[1])]
    assert {"/", "/docs", "/docs/redoc", "/docs/scalar", "/openapi.json", "/postman.json", "/health"} <= set(addresses)
    with served.client() as client:
        answers = {address: client.get(address).status_code for address in addresses}
    assert set(answers.values()) == {200}, answers


def test_every_product_stands_in_the_readme_with_its_address_and_its_contract() -> None:
    text = (ROOT / "README.md").read_text()
    for name in catalog.NAMES:
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert f"`/v1/{name}`" in row
        assert f"docs/contracts/{name}.md" in row


def test_the_list_of_settings_is_whole_and_its_defaults_are_true() -> None:
    rows = re.findall(r"^\| (`.+?) \| ?(.*?) ?\| .* \|$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    listed: dict[str, str] = {}
    for names, defaults in rows:
        found = re.findall(r"`([A-Z_]+)`", names)
        given = re.findall(r"`([^`]*)`", defaults) or [""] * len(found)
        listed |= dict(zip(found, given, strict=False))
    kinds: list[Any] = [config.Settings, *(product.settings for product in catalog.products() if product.settings)]
    fields = {each.encode_name: each for kind in kinds for each in msgspec.structs.fields(kind)}
    outside = {"MSINGI_PRODUCTS", "MSINGI_FOLDER"}  # read by asgi.py and the command line
    assert set(listed) - outside <= set(fields)
    told_by_make_up = {"MSINGI_DEMO_PASSWORD"}
    assert set(fields) - told_by_make_up <= set(listed)
    for name, said in listed.items():
        if said and not said.startswith("make "):
            default = fields[name].default
            assert (str(default).lower() if isinstance(default, bool) else str(default)) == said, name


@each_page
def test_every_setting_that_is_named_exists(page: Path) -> None:
    known = {each.encode_name for each in msgspec.structs.fields(config.Settings)}
    for product in catalog.products():
        known |= {each.encode_name for each in msgspec.structs.fields(product.settings)} if product.settings else set()
    known |= {"MSINGI_PRODUCTS", "MSINGI_FOLDER"}
    named = set(re.findall(r"\b((?:MSINGI|MONGO|REDIS|NOTES|SMTP|MAIL|PROMETHEUS|OTEL)_[A-Z_]+)\b", page.read_text()))
    assert named <= known


def test_every_decision_is_listed_with_its_title_and_every_one_listed_exists() -> None:
    folder = ROOT / "docs/decisions"
    listed = dict(re.findall(r"^\d+\. \[(.+)\]\((\d{4}-[a-z0-9-]+\.md)\)$", (folder / "README.md").read_text(), re.M))
    titles = {path.read_text().splitlines()[0].removeprefix("# "): path.name for path in folder.glob("[0-9]*.md")}
    assert titles == listed
    assert [int(name[:4]) for name in sorted(listed.values())] == list(range(1, len(listed) + 1))
    assert all(len(title.split()) >= 5 for title in titles)  # a sentence


@pytest.mark.parametrize(
    "page", [path for path in PAGES if path.parent.name == "contracts"], ids=lambda path: path.stem
)
def test_every_code_in_a_contract_is_a_problem_that_can_happen(page: Path) -> None:
    text = page.read_text()
    named = set(
        re.findall(
            r"\*\*(?:4\d\d|5\d\d)\*\* `([a-z_]+)`|\b[45]\d\d `([a-z_]+)`|^\| [45]\d\d \| `([a-z_]+)`", text, re.M
        )
    )
    codes = {code for found in named for code in found if code}
    assert codes, "no code was found: does the page write them otherwise now?"
    known = {code_of(kind) for kind in all_problems()}
    assert codes - known == set()


def all_problems() -> set[type[Problem]]:
    """All kinds of problem, wherever in the house they are declared."""
    for module in pkgutil.walk_packages(msingi.__path__, "msingi."):
        if ".tests" not in module.name and not module.name.endswith(("__main__", "asgi")):
            importlib.import_module(module.name)
    return {Problem, *_below(Problem)}


def _below(kind: type[Any]) -> set[type[Any]]:
    return {each for below in kind.__subclasses__() for each in {below, *_below(below)}}


def test_every_route_of_a_contract_is_served_and_every_route_is_in_a_contract(served: Served) -> None:
    with served.client() as client:
        described = client.get("/openapi.json").json()["paths"]
    ours = {(method.upper(), plain(path)) for path, methods in described.items() for method in methods}
    for name in catalog.NAMES:
        pages = [ROOT / f"docs/contracts/{name}.md", *sorted((ROOT / "docs/contracts").glob(f"{name}-*.md"))]
        text = "\n".join(page.read_text() for page in pages)
        table = [line for line in text.splitlines() if re.match(r"\| `[A-Z]", line)]
        promised = {each for line in table for each in routes_in(line.split("|")[1])}
        mine = {(method, path) for method, path in ours if path.startswith(f"/v1/{name}")}
        assert len(promised) > 10
        pages = {each for each in promised if not each[1].startswith(("/v1/", "/."))}  # not described for programs
        assert promised - pages - ours == set(), name
        assert mine - promised - {("GET", f"/v1/{name}/live")} == set(), name


def routes_in(cell: str) -> set[tuple[str, str]]:
    """`GET`, `POST /v1/x` and `PUT /v1/y/{id}`: each method belongs to the path that comes next."""
    found, waiting = set(), []
    for method, path in re.findall(r"`?([A-Z]{3,6})(?:\|[A-Z]+)?`?(?:,? ?`?(/[^`\s]*))?", cell):
        waiting.append(method)
        if path:
            found |= {(each, plain(path.partition("?")[0])) for each in waiting}
            waiting = []
    return found


def plain(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path.rstrip("/") or "/")
