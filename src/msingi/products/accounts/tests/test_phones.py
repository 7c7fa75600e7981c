"""Proving a phone and signing in with it, against a provider of text messages that speaks real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from msingi.kit import audit, clock, config, mail, sms, state
from msingi.kit.testing import PASSWORD, Client, World
from msingi.products.accounts.models.codes import codes
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.tests.people import with_token

PHONE = "+254712345678"


class Provider:
    """Takes messages as Africa's Talking does, and can be told to misbehave."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.status, self.code = 201, 101
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers["apiKey"])
        if self.status >= 400:
            return web.Response(status=self.status, text="no")
        asked = await request.json()
        if self.code == 101:
            self.taken.append(asked)
        number = {"statusCode": self.code, "number": asked["phoneNumbers"][0], "status": "So", "messageId": "ATX1"}
        return web.json_response({"SMSMessageData": {"Message": "x", "Recipients": [number]}}, status=self.status)


@pytest_asyncio.fixture(loop_scope="session")
async def provider(world: World) -> AsyncIterator[Provider]:
    """A provider, which the house knows."""
    it = Provider()
    app = web.Application()
    app.router.add_post("/version1/messaging/bulk", it.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    here = state.current()
    usual = here.settings
    here.settings = msgspec.structs.replace(
        usual,
        sms_url=f"http://shamba@127.0.0.1:{port}/version1/messaging/bulk",
        sms_key="the-key-of-the-provider",
        sms_from="MSINGI",
    )
    yield it
    here.settings = usual
    await runner.cleanup()


async def digits_to(world: World, phone: str = PHONE) -> str:
    """The newest code that went to a number."""
    await world.work()
    found = [each for each in await mail.written() if each.kind == "sms" and each.to == phone]
    assert found, "no message went there"
    return str(found[-1].context["code"])


async def with_phone(client: Client, world: World, phone: str = PHONE) -> None:
    await client.put("/me/phone", phone=phone, expect=202)
    await client.post("/me/phone/verification", code=await digits_to(world, phone), expect=200)


def another(digits: str) -> str:
    return f"{(int(digits) + 1) % 1_000_000:06d}"


@pytest.fixture
def told() -> Any:
    """Tells accounts other settings, until the test is over."""
    here = state.current().parts
    usual = here[AccountsSettings]

    def tell(**changes: Any) -> None:
        here[AccountsSettings] = msgspec.structs.replace(usual, **changes)

    yield tell
    here[AccountsSettings] = usual


async def test_a_code_proves_a_phone(ann: Client, world: World, provider: Provider) -> None:
    await ann.put("/me/phone", phone="0712 345 678", expect=202)
    assert (await ann.get("/me"))["phone"] is None
    digits = await digits_to(world)
    assert (await ann.post("/me/phone/verification", code=digits))["phone"] == PHONE
    assert provider.taken == [
        {
            "username": "shamba",
            "phoneNumbers": [PHONE],
            "message": f"{digits} is your Msingi code. It is good for 5 minutes. Tell it to nobody, not even to us.",
            "senderId": "MSINGI",
        }
    ]
    assert provider.keys == ["the-key-of-the-provider"]
    assert [each.about for each in await audit.entries.many({"kind": "accounts.phone_verified"})] == ["ann"]
    assert (await ann.post("/me/phone/verification", code=digits, expect=422))["code"] == "bad_ticket"
    await ann.delete("/me/phone", expect=204)
    assert (await ann.get("/me"))["phone"] is None


@pytest.mark.parametrize("phone", ["110", "not a phone", "+254 20 2222222", "+999 712 345 678", "0712345678 ext. 5"])
async def test_what_is_no_mobile_phone_is_refused(ann: Client, phone: str) -> None:
    problem = await ann.put("/me/phone", phone=phone, expect=422)
    assert [error["pointer"] for error in problem["errors"]] == ["/phone"]


async def test_who_has_the_phone_signs_in(ann: Client, nobody: Client, world: World) -> None:
    await with_phone(ann, world)
    await nobody.post("/sign-in/phone", phone="+254 712 345678", expect=202)
    tokens = await nobody.post("/sign-in/phone/code", phone=PHONE, code=await digits_to(world), expect=200)
    assert (await with_token(world, tokens).get("/me"))["id"] == "ann"
    rows = await state.database("accounts")["sessions"].find({"account": "ann"}).to_list()
    assert [row["methods"] for row in rows] == [["sms"]]


async def test_a6_a_number_of_nobodys_is_told_apart_by_nothing(ann: Client, nobody: Client, world: World) -> None:
    await with_phone(ann, world)
    before = len(await mail.written())
    answers = []
    for phone in (PHONE, "+255754123456"):
        asked = await nobody.post("/sign-in/phone", phone=phone, expect=202)
        await world.work()
        problem = await nobody.post("/sign-in/phone/code", phone=phone, code="no code", expect=401)
        problem.pop("request_id")
        answers.append((asked, problem))
    assert answers[0] == answers[1]
    assert answers[0][1]["code"] == "bad_code"
    assert [each.to for each in (await mail.written())[before:]] == [PHONE]


async def test_a_code_is_good_for_five_tries(ann: Client, nobody: Client, world: World) -> None:
    await with_phone(ann, world)
    for tries, status in ((4, 200), (5, 401)):
        await nobody.post("/sign-in/phone", phone=PHONE)
        digits = await digits_to(world)
        for _ in range(tries):
            await nobody.post("/sign-in/phone/code", phone=PHONE, code=another(digits), expect=401)
        await nobody.post("/sign-in/phone/code", phone=PHONE, code=digits, expect=status)


async def test_a_code_is_good_for_five_minutes_and_only_the_newest(ann: Client, nobody: Client, world: World) -> None:
    await with_phone(ann, world)
    await nobody.post("/sign-in/phone", phone=PHONE)
    first = await digits_to(world)
    await nobody.post("/sign-in/phone", phone=PHONE)
    second = await digits_to(world)
    if first != second:
        await nobody.post("/sign-in/phone/code", phone=PHONE, code=first, expect=401)
    with clock.shifted(timedelta(minutes=5, seconds=1)):
        await nobody.post("/sign-in/phone/code", phone=PHONE, code=second, expect=401)
    await nobody.post("/sign-in/phone/code", phone=PHONE, code=second, expect=200)


async def test_of_twenty_at_once_with_the_right_code_one_comes_in(ann: Client, nobody: Client, world: World) -> None:
    await with_phone(ann, world)
    await nobody.post("/sign-in/phone", phone=PHONE)
    digits = await digits_to(world)
    clients = [world.client(None) for _ in range(20)]
    await asyncio.gather(
        *(client.post("/sign-in/phone/code", phone=PHONE, code=digits, expect=(200, 401)) for client in clients)
    )
    assert sorted(client.last.status_code for client in clients) == [200] + [401] * 19


async def test_of_thirty_wrong_tries_at_once_five_count(ann: Client, nobody: Client, world: World) -> None:
    await with_phone(ann, world)
    await nobody.post("/sign-in/phone", phone=PHONE)
    digits = await digits_to(world)
    clients = [world.client(None) for _ in range(30)]
    await asyncio.gather(
        *(client.post("/sign-in/phone/code", phone=PHONE, code=another(digits), expect=401) for client in clients)
    )
    newest = await codes.find({"purpose": "sign_in"}, sort=[("_id", -1)])
    assert newest is not None
    assert newest.tries == 5


async def test_a_number_belongs_to_one_account(ann: Client, bob: Client, world: World) -> None:
    await with_phone(ann, world)
    await bob.put("/me/phone", phone=PHONE, expect=202)
    problem = await bob.post("/me/phone/verification", code=await digits_to(world), expect=409)
    assert problem["code"] == "phone_taken"
    assert (await accounts.get("bob")).phone is None


async def test_a_code_for_one_purpose_or_person_is_no_code_for_another(ann: Client, bob: Client, world: World) -> None:
    await with_phone(ann, world)
    await world.client(None).post("/sign-in/phone", phone=PHONE)
    digits = await digits_to(world)
    await ann.post("/me/phone/verification", code=digits, expect=422)
    await bob.post("/me/phone/verification", code=digits, expect=422)


async def test_a19_a_phone_is_changed_by_who_proved_lately_who_they_are(world: World, nobody: Client) -> None:
    tokens = await nobody.post("/sign-in", email="ann@msingi.test", password=PASSWORD)
    late = with_token(world, tokens)
    with clock.shifted(timedelta(minutes=6)):
        await late.put("/me/phone", phone=PHONE, expect=401)
        await late.delete("/me/phone", expect=401)


async def test_d2_no_code_and_no_number_lies_open(ann: Client, nobody: Client, world: World) -> None:
    await ann.put("/me/phone", phone=PHONE)
    digits = await digits_to(world)
    await nobody.post("/sign-in/phone", phone=PHONE)
    base = state.database("accounts")
    rows = [str(row) for name in ("codes", "jobs") for row in await base[name].find({}).to_list()]
    assert len(rows) == 3
    assert not [row for row in rows if PHONE in row or f"'{digits}'" in row]


# ---- pumping


async def test_b_messages_to_a_number_have_their_bound(ann: Client, nobody: Client, world: World) -> None:
    await with_phone(ann, world)
    for _ in range(7):
        await nobody.post("/sign-in/phone", phone=PHONE, expect=202)
    await world.work()
    assert len([each for each in await mail.written() if each.kind == "sms"]) == 5


async def test_b_messages_at_the_wish_of_one_caller_have_their_bound(nobody: Client, told: Any) -> None:
    told(texts_from_caller="3/hour")
    for number in range(5):
        phone = f"+25471234567{number}"
        await nobody.post("/sign-in/phone", phone=phone, expect=202 if number < 3 else 429)
    assert int(nobody.last.headers["retry-after"]) > 0


async def test_b_messages_to_a_country_and_in_all_have_their_bounds(ann: Client, bob: Client, told: Any) -> None:
    async def texts() -> int:
        return len([each for each in await mail.written() if each.kind == "sms"])

    told(texts_to_country="2/hour", texts_in_all="3/day")
    for number in range(3):
        await ann.put("/me/phone", phone=f"+25471234567{number}", expect=202)
    assert await texts() == 2
    for number in range(2):
        await bob.put("/me/phone", phone=f"+25575412345{number}", expect=202)
    assert await texts() == 3
    told(text_countries="KE, TZ")
    await bob.put("/me/phone", phone="+256772123456", expect=202)
    assert await texts() == 3
    await bob.put("/me/phone", phone="+254712345688", expect=202)
    assert await texts() == 4


# ---- the provider


async def test_c7_a_message_leaves_when_the_provider_is_back(ann: Client, world: World, provider: Provider) -> None:
    provider.status = 503
    await ann.put("/me/phone", phone=PHONE, expect=202)
    await mail.deliver_due()
    letter = (await mail.written())[-1]
    assert (letter.state, letter.fault, letter.tries) == ("waiting", "HTTP 503", 1)
    provider.status = 201
    with clock.shifted(timedelta(seconds=45)):
        await mail.deliver_due()
    assert [each["phoneNumbers"] for each in provider.taken] == [[PHONE]]


async def test_a_code_that_is_of_no_use_any_more_is_not_sent(ann: Client, world: World, provider: Provider) -> None:
    provider.status = 503
    await ann.put("/me/phone", phone=PHONE, expect=202)
    await mail.deliver_due()
    provider.status = 201
    with clock.shifted(timedelta(minutes=6)):
        await mail.deliver_due()
    assert provider.taken == []
    assert (await mail.written())[-1].state == "dead"


@pytest.mark.parametrize(("code", "becomes"), [(403, "dead"), (406, "dead"), (405, "waiting"), (500, "waiting")])
async def test_a_message_is_given_up_only_for_its_number(
    ann: Client, world: World, provider: Provider, code: int, becomes: str
) -> None:
    provider.code = code
    await ann.put("/me/phone", phone=PHONE, expect=202)
    await mail.deliver_due()
    letter = (await mail.written())[-1]
    assert (letter.state, letter.fault) == (becomes, f"{code} So")


def test_numbers_are_read_as_of_a_region() -> None:
    assert sms.number_of("0754 123 456", "TZ") == "+255754123456"
    assert sms.number_of("000254 712 345 678", "KE") == "+254712345678"
    assert sms.country_of("+256772123456") == "UG"
    with pytest.raises(config.BadSettings, match="SMS_REGION"):
        config.load(config.Settings, {"SMS_REGION": "Kenya"})
