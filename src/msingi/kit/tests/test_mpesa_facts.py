"""What M-Pesa's messages are read as: never a crash, never a sum that was not said."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msingi.kit.payments import mpesa_codes, mpesa_facts
from msingi.kit.payments.face import BadCallback, Fact, Refused
from msingi.kit.payments.mpesa import MPesa, account_of, in_sandbox, phone_of, plain
from msingi.kit.payments.mpesa_facts import UnreadableStatement, of_confirmation, of_push_callback, of_statement

PAID = {
    "Amount": 1299.0,
    "MpesaReceiptNumber": "NLJ7RT61SV",
    "Balance": None,
    "TransactionDate": 20191219102115,
    "PhoneNumber": 254708374149,
}


def pushed(items: Any = None, **changes: Any) -> bytes:
    said = {"MerchantRequestID": "29115-1", "CheckoutRequestID": "ws_CO_191220191020363925", "ResultCode": 0, **changes}
    if items is not None:
        said["CallbackMetadata"] = {"Item": items}
    return msgspec.json.encode({"Body": {"stkCallback": said}})


def listed(items: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"Name": name} if value is None else {"Name": name, "Value": value} for name, value in items.items()]


# ---- callbacks


def test_a_callback_as_safaricom_prints_it() -> None:
    (fact,) = of_push_callback(pushed(listed(PAID), ResultDesc="The service request is processed successfully."), "p1")
    assert fact == Fact(
        id="stk:ws_CO_191220191020363925:0",
        reference="ws_CO_191220191020363925",
        kind="captured",
        payment="p1",
        amount=129_900,
        currency="KES",
        receipt="NLJ7RT61SV",
        at=datetime(2019, 12, 19, 7, 21, 15, tzinfo=UTC),
        raw={
            "ResultCode": "0",
            "ResultDesc": "The service request is processed successfully.",
            "MerchantRequestID": "29115-1",
        },
    )


@settings(deadline=None)
@given(st.permutations(list(PAID.items())), st.sets(st.sampled_from(sorted(PAID))))
def test_items_may_come_in_any_order_and_be_missing(items: list[tuple[str, Any]], missing: set[str]) -> None:
    left = {name: value for name, value in items if name not in missing}
    (fact,) = of_push_callback(pushed(listed(left)), "p1")
    assert fact.amount == (0 if "Amount" in missing else 129_900)
    assert fact.receipt == ("" if "MpesaReceiptNumber" in missing else "NLJ7RT61SV")
    assert (fact.at is None) == ("TransactionDate" in missing)


@settings(deadline=None)
@given(st.decimals(min_value=Decimal("0.01"), max_value=10**9, places=2), st.sampled_from([float, str, "raw"]))
def test_a_sum_is_exact_whether_it_comes_as_a_number_or_as_text(amount: Decimal, how: Any) -> None:
    if how == "raw":
        body = pushed([{"Name": "Amount", "Value": 777}]).replace(b"777", str(amount).encode())
    else:
        body = pushed([{"Name": "Amount", "Value": how(amount)}])
    if how is str and amount >= 10**9:
        return  # no sum has so many digits
    (fact,) = of_push_callback(body, "p1")
    assert fact.amount == int(amount * 100)


@pytest.mark.parametrize(
    "value",
    ["", "ten", "1,299.00", "-5", "NaN", "1e3", "0x10", -1, 0, 0.001, 12.345, 1e300, 10**30, True, [1], {"a": 1}],
)
def test_a_sum_that_cannot_be_read_is_no_sum(value: Any) -> None:
    with pytest.raises(BadCallback):
        of_push_callback(pushed([{"Name": "Amount", "Value": value}]), "p1")


@pytest.mark.parametrize("number", [b"1e999999999", b"1e-999999999", b"0." + b"0" * 3000 + b"1", b"9" * 4000])
def test_a_number_that_is_made_to_take_long_is_refused_at_once(number: bytes) -> None:
    body = pushed([{"Name": "Amount", "Value": 777}]).replace(b"777", number)
    with pytest.raises(BadCallback):
        of_push_callback(body, "p1")


def test_two_sums_that_differ_are_no_sum_and_the_same_one_twice_is() -> None:
    items = [{"Name": "Amount", "Value": 5}, {"Name": "Amount", "Value": 6}]
    with pytest.raises(BadCallback):
        of_push_callback(pushed(items), "p1")
    (fact,) = of_push_callback(pushed([items[0], items[0]]), "p1")
    assert fact.amount == 500


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"Body": {}}',
        b'{"Body": {"stkCallback": []}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        pushed(ResultCode=None),
        pushed(ResultCode=0.0),
        pushed(ResultCode=True),
        pushed(ResultCode="; drop"),
        pushed(ResultCode=[0]),
        pushed(CheckoutRequestID=None),
        pushed(CheckoutRequestID=""),
        pushed(CheckoutRequestID="a b"),
        pushed(CheckoutRequestID="x" * 200),
        pushed([{"Name": "MpesaReceiptNumber", "Value": "x'; --"}]),
        pushed([{"Name": "MpesaReceiptNumber", "Value": 12}]),
    ],
)
def test_what_mpesa_would_not_send_is_refused(body: bytes) -> None:
    with pytest.raises(BadCallback):
        of_push_callback(body, "p1")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from([*PAID, "TransactionAmount", "TransactionReceipt", "TransactionStatus", "ReceiptNo"])
PAIR = st.fixed_dictionaries({}, optional={"Name": NAMES | JSON, "Key": NAMES | JSON, "Value": JSON})
RESULTS = st.sampled_from([0, "0", 1, "1032", 1037, 4999, 9999, 2001, "SFC_IC0003"]) | JSON
SAID = st.fixed_dictionaries(
    {},
    optional={
        "CheckoutRequestID": st.just("ws_CO_1") | JSON,
        "ResultCode": RESULTS,
        "ResultDesc": JSON,
        "CallbackMetadata": st.fixed_dictionaries({"Item": st.lists(PAIR | JSON, max_size=6) | PAIR | JSON}) | JSON,
        "ResultParameters": st.fixed_dictionaries({"ResultParameter": st.lists(PAIR | JSON, max_size=6) | JSON}) | JSON,
        "TransactionID": JSON,
        "TransID": st.just("NLJ7RT61SV") | JSON,
        "TransAmount": st.just("12.50") | JSON,
        "BillRefNumber": JSON,
        "TransTime": JSON,
    },
)
READERS: Sequence[Callable[[bytes], Sequence[Fact]]] = (
    lambda body: of_push_callback(body, "p1"),
    lambda body: mpesa_facts.of_payout_result(body, "ws_CO_1", "r1"),
    lambda body: mpesa_facts.of_payout_status(body, "ws_CO_1", "r1"),
    of_confirmation,
)


@settings(deadline=None)
@given(st.one_of(JSON, SAID, *(st.fixed_dictionaries({name: SAID}) for name in ("Body", "Result"))), st.data())
def test_nothing_that_comes_in_crashes_the_reader_or_makes_money(said: Any, data: st.DataObject) -> None:
    wrapped = {"Body": {"stkCallback": said["Body"]}} if isinstance(said, dict) and "Body" in said else said
    body = msgspec.json.encode(wrapped)
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body)))]
    for read in READERS:
        try:
            facts = read(body)
        except BadCallback:
            continue
        for fact in facts:
            assert 0 <= fact.amount <= mpesa_facts.LARGEST * 100
            assert fact.amount == 0 or str(fact.amount // 100).encode() in body
            msgspec.json.encode(fact)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused(body: bytes) -> None:
    for read in READERS:
        with pytest.raises(BadCallback):
            read(body)


# ---- queries


def test_how_long_ago_a_prompt_was_is_read_from_its_reference() -> None:
    said, at = {"ResultCode": "1037"}, datetime(2026, 11, 21, 10, 0, tzinfo=UTC)  # 13:00 in Nairobi
    kinds = {
        reference: mpesa_facts.of_push_query(said, reference, at)[0].kind
        for reference in ("ws_CO_21112026124900123712345678", "ws_CO_21112026125100123712345678", "other")
    }
    assert list(kinds.values()) == ["failed", "pending", "pending"]
    (fact,) = mpesa_facts.of_push_query({"ResultCode": "7777"}, "ws_CO_21112026124900123712345678", at)
    assert (fact.kind, fact.code) == ("pending", "unclear")  # nobody knows this word, however old it is


# ---- addresses

MPESA = MPesa(
    url="http://127.0.0.1:9/mpesa",
    key="k",
    secret="s",
    passkey="p",
    shortcode="174379",
    callbacks="https://duka.test/heard",
    callback_secret="a secret",
)


def segment(place: str, value: str) -> str:
    return MPESA.address(place, value).rpartition("/")[2]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        ".",
        "push",
        "push.p1",
        "push.p1.",
        "push.p1." + "0" * 32,
        segment("push", "p2").replace("p2", "p1"),
        segment("push", "p1")[:-1],
        segment("push", "p1") + "0",
        segment("payout", "p1").replace("payout", "push"),
        segment("nowhere", "p1"),
        "push.p1.ß" + "0" * 31,
    ],
)
def test_p2_a_callback_to_an_address_that_we_did_not_give_is_refused(wrong: str) -> None:
    with pytest.raises(BadCallback):
        MPESA.hear({}, pushed(listed(PAID)), wrong)
    (fact,) = MPESA.hear({}, pushed(listed(PAID)), segment("push", "p1"))
    assert (fact.payment, fact.amount) == ("p1", 129_900)


def test_p2_without_a_secret_there_are_no_callbacks() -> None:
    with pytest.raises(ValueError, match="without a secret"):
        in_sandbox("http://127.0.0.1:9", callbacks="http://127.0.0.1:9/heard", callback_secret="")


def test_an_address_holds_nothing_that_must_be_escaped() -> None:
    url = MPESA.address("payout", "ws_CO_191220191020363925.0k3g5h7j9l1n3p5r7t9v1b3d5f")
    assert set(url) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/-")
    assert MPESA.address("push", "p1", "https://other.test/x/").startswith("https://other.test/x/push.p1.")


# ---- what is sent


@pytest.mark.parametrize(
    ("amount", "currency", "taken"),
    [
        (100, "KES", True),
        (25_000_000, "KES", True),
        (129_900, "KES", True),
        (99, "KES", False),
        (101, "KES", False),
        (0, "KES", False),
        (-100, "KES", False),
        (25_000_100, "KES", False),
        (100, "TZS", False),
    ],
)
def test_whole_shillings_from_one_to_a_quarter_of_a_million_are_taken(amount: int, currency: str, taken: bool) -> None:
    assert MPESA.takes(amount, currency) is taken


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+254712345678", "254712345678"),
        ("0712 345 678", "254712345678"),
        ("254712345678", "254712345678"),
        ("0110-345-678", "254110345678"),
        ("712345678", "254712345678"),
    ],
)
def test_a_number_is_spelt_as_daraja_spells_it(text: str, number: str) -> None:
    assert phone_of(text) == number


@pytest.mark.parametrize(
    "text", ["", "07", "+255712345678", "020 2345678", "0812345678", "+254712345678;ext=1", "x" * 99]
)
def test_what_is_no_kenyan_mobile_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        phone_of(text)


@settings(deadline=None)
@given(st.text(max_size=60), st.from_regex(r"[0-9a-v]{26}", fullmatch=True))
def test_what_the_prompt_says_has_only_signs_that_pass(note: str, id: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789- ")
    account, words = account_of(note, id), plain(note, 13)
    assert 1 <= len(account) <= 12
    assert set(account) <= allowed - {" "}
    assert len(words) <= 13
    assert set(words) <= allowed


def test_the_account_in_the_prompt_is_the_orders_number() -> None:
    assert account_of("Order MS-4F7K", "0k3g5h7j9l1n3p5r7t9v1b3d5f") == "MS-4F7K"
    assert account_of("…", "0k3g5h7j9l1n3p5r7t9v1b3d5f") == "p5r7t9v1b3d5f"[-12:]


# ---- the codes


@pytest.mark.parametrize("table", [mpesa_codes.PUSHES, mpesa_codes.PAYOUTS])
def test_each_code_is_said_in_english_and_in_swahili(table: dict[str, mpesa_codes.Meaning]) -> None:
    for meaning in table.values():
        assert meaning.code.isidentifier()
        assert len(meaning.en) > 10
        assert len(meaning.sw) > 10
        assert meaning.en != meaning.sw
        assert mpesa_codes.text_of(meaning.code) == meaning.en
        assert mpesa_codes.text_of(meaning.code, "sw") == meaning.sw


def test_one_word_of_ours_has_one_meaning() -> None:
    found: dict[str, mpesa_codes.Meaning] = {}
    for meaning in (*mpesa_codes.PUSHES.values(), *mpesa_codes.PAYOUTS.values(), *mpesa_codes.OURS):
        assert found.setdefault(meaning.code, meaning) == meaning


def test_the_codes_that_the_roadmap_names_are_known_and_what_may_still_be_paid_is_not_final() -> None:
    named = ("0", "1", "17", "26", "1001", "1019", "1025", "1032", "1037", "2001", "2028", "9999")
    assert all(each in mpesa_codes.PUSHES for each in named)
    open_still = {each for each, meaning in mpesa_codes.PUSHES.items() if not meaning.final}
    assert open_still == {"17", "1036", "1037", "9999"}
    assert not mpesa_codes.of_push("31415").final
    assert mpesa_codes.text_of("no such code") == mpesa_codes.UNHEARD_OF.en


# ---- a statement

STATEMENT = """Account Holder:,DUKA,,,,
Short Code:,174379,,,,
,,,,,
Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,A/C No.
NLJ7RT61SV,19-12-2019 10:21:15,Pay Bill from 2547****149 - JOHN DOE Acc. MS-4F7K,Completed,"1,299.00",,MS-4F7K
NLJ7RT61SW,19-12-2019 10:22:15,Business Payment,Completed,,-500.00,
NLJ7RT61SX,19-12-2019 10:23:15,Pay Bill,Failed,700.00,,MS-1
NLJ7RT61SY,2019-12-19 10:24:15,Pay Bill,Completed,12.50,,
"""


def test_a_statement_tells_what_came_in() -> None:
    facts = of_statement(STATEMENT)
    assert [(each.id, each.amount, each.account) for each in facts] == [
        ("c2b:NLJ7RT61SV", 129_900, "MS-4F7K"),
        ("c2b:NLJ7RT61SY", 1_250, ""),
    ]
    assert facts[1].at == datetime(2019, 12, 19, 7, 24, 15, tzinfo=UTC)
    assert facts[1].at - (facts[0].at or facts[1].at) == timedelta(minutes=3)
    assert "JOHN" not in repr(facts)


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2", STATEMENT.replace('"1,299.00"', "lots"), STATEMENT.replace("NLJ7RT61SV", "?")]
)
def test_what_is_no_statement_is_refused_whole(text: str) -> None:
    with pytest.raises(UnreadableStatement):
        of_statement(text)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_file_crashes_the_reader(text: str) -> None:
    for each in (text, STATEMENT + text):
        with suppress(UnreadableStatement):
            assert all(fact.amount > 0 for fact in of_statement(each))
