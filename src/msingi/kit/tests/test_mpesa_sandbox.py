"""The stand-in of Daraja itself: what people can try by hand, and what it refuses."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from msingi.kit import fetch, state
from msingi.kit.ids import new_id
from msingi.kit.payments.face import Asked, Fact, Unknown
from msingi.kit.payments.mpesa import MPesa
from msingi.kit.payments.sandbox import daraja
from msingi.kit.payments.sandbox.control import FAULTS, Control
from msingi.kit.payments.sandbox.daraja import MAGIC, MAGIC_PUSHES, Daraja, Kept
from msingi.kit.tests.mpesa_served import Ear, Sandbox, ear, paybill, sandbox, served

__all__ = ["ear", "sandbox", "served"]  # fixtures


@pytest.fixture
def mpesa(sandbox: Sandbox, ear: Ear, running: state.State, monkeypatch: pytest.MonkeyPatch) -> MPesa:
    monkeypatch.setattr(fetch, "_backoff", lambda attempt: 0.01)
    ear.provider = paybill(sandbox, ear.url)
    return ear.provider


@pytest_asyncio.fixture(loop_scope="session")
async def browser(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sandbox.url, trust_env=False, follow_redirects=True) as client:
        yield client


def asked(phone: str = "0712345678", amount: int = 129_900) -> Asked:
    return Asked(id=new_id(), amount=amount, currency="KES", note="Order <b>MS-4F7K", phone=phone)


# ---- a phone for people


async def shown(browser: httpx.AsyncClient, number: str = "254712345678") -> str:
    """The prompt's id, once the page of the phone shows one."""
    async with asyncio.timeout(30):
        while True:
            page = (await browser.get(f"/mpesa/phone/{number}")).text
            found = re.search(r'name=prompt value="([^"]+)"', page)
            if found:
                return found[1]
            assert 'http-equiv="refresh"' in page  # a phone without a prompt looks again by itself
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("pressed", "kind", "code"),
    [
        ({"press": "send", "pin": "1234"}, "captured", ""),
        ({"press": "send", "pin": "0000"}, "failed", "wrong_pin"),
        ({"press": "send", "pin": "12"}, "failed", "wrong_pin"),
        ({"press": "cancel"}, "failed", "cancelled"),
    ],
)
async def test_a_person_decides_on_the_page_of_the_phone(
    mpesa: MPesa, ear: Ear, sandbox: Sandbox, browser: httpx.AsyncClient, pressed: dict[str, str], kind: str, code: str
) -> None:
    await sandbox.control(settings={"accept_after": 0.5, "expire_after": 30})
    await browser.get("/mpesa/phone/254712345678")  # who looks at a phone decides: it does not pay by itself
    await mpesa.begin(asked())
    prompt = await shown(browser)
    page = (await browser.get("/mpesa/phone/254712345678")).text
    assert "KSh 1,299.00" in page
    assert "MS-4F7K" in page
    assert "<b>MS" not in page
    await browser.post("/mpesa/phone/254712345678", data={"prompt": prompt, **pressed})
    (fact,) = await ear.until(1)
    assert (fact.kind, fact.code) == (kind, code)
    gone = await browser.post("/mpesa/phone/254712345678", data={"prompt": prompt, "press": "cancel"})
    assert "Nothing here" in gone.text


async def test_the_list_of_what_can_be_tried_names_each_number(mpesa: MPesa, browser: httpx.AsyncClient) -> None:
    begun = await mpesa.begin(asked())
    page = (await browser.get("/mpesa")).text
    for end in (*MAGIC, *MAGIC_PUSHES):
        assert f"07000000{end}" in page
    assert begun.reference[-9:] in page


# ---- numbers and sums that behave in their own way


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("01", [("failed", "cancelled", 0)]),
        ("02", [("failed", "insufficient_funds", 0)]),
        ("03", [("failed", "wrong_pin", 0)]),
        ("04", [("pending", "no_answer", 0)]),
        ("05", [("pending", "no_answer", 0)]),  # nobody opened its page
        ("06", []),
        ("07", [("captured", "", 129_900)] * 3),
        ("09", [("captured", "", 129_800)]),
        ("11", [("captured", "", 0)]),
        ("14", [("captured", "", 129_900)]),
        ("42", [("captured", "", 129_900)]),
    ],
)
async def test_a_magic_number_behaves_as_it_says(mpesa: MPesa, ear: Ear, end: str, told: list[Any]) -> None:
    begun = await mpesa.begin(asked(f"07000000{end}"))
    await ear.until(len(told))
    assert [(fact.kind, fact.code, fact.amount) for fact in ear.facts] == told
    if not told:
        async with asyncio.timeout(30):
            while (await mpesa.ask(begun.reference))[0].kind != "captured":
                await asyncio.sleep(0.02)
        assert ear.facts == []


async def test_a_number_may_lose_the_answer_to_the_push(mpesa: MPesa, ear: Ear) -> None:
    for end in ("12", "13"):
        with pytest.raises(Unknown):
            await mpesa.begin(asked(f"07000000{end}"))
    facts: list[Fact] = await ear.until(1)
    assert [fact.kind for fact in facts] == ["captured"]


async def test_a_magic_sum_ends_with_its_code(mpesa: MPesa, ear: Ear) -> None:
    await mpesa.begin(asked(amount=20_103_200))
    await mpesa.begin(asked(amount=20_200_100))
    assert {fact.code for fact in await ear.until(2)} == {"cancelled", "wrong_pin"}


# ---- as strict as the real one


async def push(sandbox: Sandbox, mpesa: MPesa, **changes: Any) -> httpx.Response:
    token = await mpesa._fresh_token()
    body = {
        **mpesa._signed(),
        "TransactionType": "CustomerPayBillOnline",
        "Amount": 1,
        "PartyA": "254712345678",
        "PartyB": "174379",
        "PhoneNumber": "254712345678",
        "CallBackURL": "http://127.0.0.1:9/x",
        "AccountReference": "MS-1",
        "TransactionDesc": "Order",
        **changes,
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"{sandbox.url}/mpesa/mpesa/stkpush/v1/processrequest"
        return await client.post(url, json=body, headers={"authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"Amount": 0},
        {"Amount": 1.5},
        {"Amount": 250_001},
        {"PhoneNumber": "0712345678"},
        {"PhoneNumber": "+254712345678"},
        {"AccountReference": "longer than 12"},
        {"TransactionDesc": "longer than 13"},
        {"TransactionDesc": "a & b"},
        {"CallBackURL": "ftp://x"},
        {"TransactionType": "Other"},
        {"Password": "c2VjcmV0"},
        {"Timestamp": "2026"},
    ],
)
async def test_what_daraja_would_refuse_is_refused(sandbox: Sandbox, mpesa: MPesa, wrong: dict[str, Any]) -> None:
    assert (await push(sandbox, mpesa)).json()["ResponseCode"] == "0"
    refused = await push(sandbox, mpesa, **wrong)
    assert refused.status_code in (400, 500)
    assert set(refused.json()) == {"requestId", "errorCode", "errorMessage"}


async def test_a_phone_may_be_told_to_take_one_prompt_at_a_time(sandbox: Sandbox, mpesa: MPesa) -> None:
    await sandbox.control(settings={"one_at_a_time": True, "accept_after": 5})
    assert (await push(sandbox, mpesa)).status_code == 200
    assert "lock subscriber" in (await push(sandbox, mpesa)).json()["errorMessage"]
    assert (await push(sandbox, mpesa, PhoneNumber="254712345679")).status_code == 200


async def test_without_a_good_token_nothing_is_answered(sandbox: Sandbox) -> None:
    async with httpx.AsyncClient(base_url=f"{sandbox.url}/mpesa", trust_env=False) as client:
        for path in ("stkpush/v1/processrequest", "stkpushquery/v1/query", "b2c/v3/paymentrequest"):
            refused = await client.post(f"/mpesa/{path}", json={}, headers={"authorization": "Bearer made-up"})
            assert refused.status_code in (401, 404)
            assert "Invalid Access Token" in refused.json()["errorMessage"]
        assert (await client.get("/oauth/v1/generate", headers={"authorization": "Basic !"})).status_code == 400
        assert (await client.get("/nowhere")).status_code == 404


# ---- the control, and the process


@pytest.mark.parametrize(
    "wish",
    [
        {"faults": {"mpesa.push": [{"fault": "typo"}]}},
        {"faults": {"mpesa.typo": [{"fault": "cut"}]}},
        {"settings": {"typo": 1}},
        {"settings": {"accept_after": -1}},
        {"release": "upwards"},
        {"typo": True},
    ],
)
async def test_a_wish_that_means_nothing_is_refused(browser: httpx.AsyncClient, wish: dict[str, Any]) -> None:
    assert (await browser.post("/control", json=wish)).status_code == 422


async def test_stripes_stand_in_lives_beside_it_under_the_same_control(browser: httpx.AsyncClient) -> None:
    headers = {"authorization": "Bearer sk_test_1"}
    wish = {"faults": {"stripe.list": [{"fault": "error"}]}}
    assert (await browser.post("/control", json=wish)).json()["faults"] == {"stripe.list": 1}
    assert (await browser.get("/stripe/v1/payment_intents", headers=headers)).status_code == 500
    assert (await browser.get("/stripe/v1/payment_intents", headers=headers)).status_code == 200


def test_it_does_not_start_in_production() -> None:
    command = [sys.executable, "-m", "msingi.kit.payments.sandbox", "--port", "1"]
    ended = subprocess.run(
        command, env=os.environ | {"MSINGI_ENV": "production"}, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "do not start in production" in ended.stderr


def test_each_fault_that_is_wanted_is_used_once() -> None:
    control = Control()
    for kind, faults in FAULTS.items():
        control.want(kind, [{"fault": name} for name in sorted(faults)])
        assert [control.take(kind) for _ in range(len(faults) + 1)] == [
            *({"fault": name} for name in sorted(faults)),
            None,
        ]


def test_it_remembers_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daraja, "MOST", 3)
    kept: Kept[int] = Kept()
    for number in range(10):
        kept.keep(str(number), number)
    assert list(kept) == ["7", "8", "9"]


async def test_to_forget_ends_what_was_to_follow() -> None:
    stand_in = Daraja(Control())
    stand_in._later(asyncio.sleep(60))
    (task,) = stand_in.tasks
    await stand_in.aclose()
    assert task.cancelled()
    assert stand_in.tasks == set()
