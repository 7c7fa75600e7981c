"""What follows from what goods are, and the parsers of rows, cells and slugs, for whatever comes."""

import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msingi.products.shop import sheets
from msingi.products.shop.goods import CATEGORIES, GOODS, SYNONYMS
from msingi.products.shop.models.catalogue import CURRENCIES, Option, Product, Variant, Words
from msingi.products.shop.rules import catalogue as rules
from msingi.products.shop.rules import catalogue_rows as rows
from msingi.products.shop.seeds_of_goods import all_goods, generated, tree

SLUG = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
few = settings(max_examples=200, deadline=None)


@few
@given(st.text(max_size=300))
def test_every_title_makes_a_slug(title: str) -> None:
    slug = rules.slug_of(title)
    assert SLUG.fullmatch(slug)
    assert len(slug) <= rules.LONGEST_SLUG
    assert rules.slug_of(slug) == slug


def test_a_slug_keeps_the_words_of_its_title() -> None:
    assert rules.slug_of("Ng'ombe & Co, 2 kg") == "ngombe-co-2-kg"
    assert rules.slug_of("Café Yîgo") == "cafe-yigo"
    assert rules.slug_of("ሻይ") == "goods"


@few
@given(st.text(max_size=60))
def test_an_escaped_cell_runs_nowhere_and_can_be_read_back(text: str) -> None:
    assert sheets.unescaped(sheets.escaped(text)) == text
    assert not sheets.escaped(text).startswith(sheets.RUNS)


@few
@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=3, max_size=3)))
def test_what_is_written_as_csv_is_read_as_it_was(table: list[list[str]]) -> None:
    body = sheets.csv_lines([["a", "b", "c"], *table])
    kept = [row for row in table if any(row)]
    assert [list(line.cells.values()) for line in sheets.read(sheets.CSV, body)] == kept


@few
@given(st.binary(max_size=2000))
def test_no_bytes_break_the_reading_of_tables(body: bytes) -> None:
    for kind in (sheets.CSV, sheets.XLSX):
        with suppress(sheets.BadSheet):
            assert all(line.cells for line in sheets.read(kind, body))


@few
@given(st.integers(0, rows.HIGHEST), st.sampled_from(CURRENCIES))
def test_an_amount_is_read_as_it_is_written(amount: int, currency: str) -> None:
    assert rows.minor(rows.major(amount, currency), currency) == amount


@few
@given(st.text(max_size=30), st.sampled_from(CURRENCIES))
def test_whatever_is_no_amount_is_a_fault(text: str, currency: str) -> None:
    with suppress(ValueError):
        amount = rows.minor(text, currency)
        assert amount is None or 0 <= amount <= rows.HIGHEST


def test_amounts_that_people_write() -> None:
    assert rows.minor(" 1,299.50 ", "KES") == 129950
    assert rows.minor("", "KES") is None
    assert rows.minor("500", "UGX") == 500
    for wrong in ("1.999", "-1", "1e3", "٣", "KES 5", "1.", ".5"):
        with pytest.raises(ValueError, match=r"."):
            rows.minor(wrong, "KES")


cell = st.text(max_size=12)
columns = st.sampled_from([*rows.OF_PRODUCT, *rows.OF_VARIANT, "price KES", "compare_at UGX"])


@few
@given(st.lists(st.dictionaries(columns, cell, max_size=8), max_size=6))
def test_whatever_stands_in_rows_is_read_or_named(table: list[dict[str, str]]) -> None:
    found, faults = rows.grouped(enumerate(table, start=2))
    assert {each.slug for each in found} == {each.get("slug", "").strip() for each in table} - {""}
    assert all(2 <= each.row < 2 + len(table) and each.message for each in faults)


def sold(prices: dict[str, int], sku: str = "A", **options: str) -> Variant:
    return Variant(id=sku.lower(), sku=sku, prices=prices, options=options)


def test_a_price_of_nothing_is_no_price() -> None:
    assert rules.lowest_prices([sold({"KES": 0, "USD": 5}), sold({"USD": 3, "UGX": 0})]) == {"USD": 3}


def test_only_what_is_published_stands_on_shelves() -> None:
    product = Product(slug="a", title=Words("A"), category_ids=["x", "y"], variants=[sold({"KES": 5, "USD": 1})])
    assert rules.derived(product).shelves == []
    product.availability = "published"
    assert rules.derived(product).shelves == ["KES", "KES/x", "KES/y", "USD", "USD/x", "USD/y"]


def test_terms_are_folded_words_and_filters() -> None:
    product = Product(
        slug="a",
        title=Words("Café Gold", "Kahawa"),
        brand=" Kericho  GOLD ",
        tags=["Fair trade"],
        attributes={"colour": "Red"},
        variants=[sold({"KES": 5}, "CG-1")],
    )
    assert rules.derived(product).terms == [
        *("cafe", "gold", "kahawa"),
        *("brand:kericho gold", "tag:fair trade", "colour:red"),
        *("kericho", "fair", "trade", "red", "cg", "1"),
    ]
    assert rules.derived(product).title_terms == ["cafe", "gold", "kahawa"]


@pytest.mark.parametrize(
    ("options", "variants", "problem"),
    [
        ([], [sold({}, "A"), sold({}, "A")], rules.DoubledVariant),
        ([], [sold({}, "A", size="S")], rules.BadOptions),
        ([Option("size", ["S"])], [sold({}, "A")], rules.BadOptions),
        ([Option("size", ["S"])], [sold({}, "A", size="M")], rules.BadOptions),
        ([Option("size", ["S", "S"])], [], rules.BadOptions),
        ([Option("size", ["S"]), Option("size", ["M"])], [], rules.BadOptions),
        ([Option("size", ["S"])], [sold({}, "A", size="S"), sold({}, "B", size="S")], rules.BadOptions),
        ([], [sold({"JPY": 5})], rules.NoSuchCurrency),
    ],
)
def test_variants_fit_what_they_differ_in(
    options: list[Option], variants: list[Variant], problem: type[Exception]
) -> None:
    with pytest.raises(problem):
        rules.check_variants(options, variants)


def test_synonyms_widen_each_word_by_itself() -> None:
    groups = [["tea", "chai"], ["chai", "majani"], ["jiko", "stove"]]
    assert rules.widened(["chai", "hot"], groups) == [["chai", "tea", "majani"], ["hot"]]


def test_the_goods_of_the_demo_are_in_order() -> None:
    made = all_goods()
    assert len(made) >= 200
    assert all(each.title.en and each.title.sw for each in made)
    assert {good.category for good in GOODS} <= set(CATEGORIES)
    skus = [variant.sku for each in made for variant in each.variants]
    assert len(set(skus)) == len(skus)
    assert len({each.slug for each in made}) == len(made)
    for each in made:
        assert SLUG.fullmatch(each.slug)
        assert len(each.slug) <= 80
        rules.check_ready(rules.derived(each))
    assert all(len(set(words)) == len(words) >= 2 for words in SYNONYMS)


def test_a_generated_product_is_the_same_each_time() -> None:
    paths = {each.id: [*each.path, each.id] for each in tree()}
    one, other = generated(123, paths), generated(123, paths)
    assert (one.title, one.lowest, one.terms, one.sold) == (other.title, other.lowest, other.terms, other.sold)
    assert generated(124, paths).title != one.title


def test_a_generated_product_has_what_follows_from_what_it_is() -> None:
    paths = {each.id: [*each.path, each.id] for each in tree()}
    for number in range(0, 100_000, 997):
        product = generated(number, paths)
        assert rules.derived(product) == product
