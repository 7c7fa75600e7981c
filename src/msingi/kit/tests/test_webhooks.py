"""Webhooks, sent over real HTTP to receivers that misbehave; what is signed is verified by somebody else's library."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from msingi.kit import clock, config, fetch, state, worker
from msingi.kit.config import BadSettings, Settings
from msingi.kit.db import Paging
from msingi.kit.errors import NotFound, Stale
from msingi.kit.fetch import AddressRefused
from msingi.kit.hearing import catch_up
from msingi.kit.testing import test_settings
from msingi.kit.tests import dairy
from msingi.kit.tests.dairy import ANN, Milked, endpoint, hooks, log, milk, now_of, states, told_off
from msingi.kit.tests.waiting import until
from msingi.kit.webhooks import hooks as hooks_module
from msingi.kit.webhooks import problems, sending, signing
from msingi.kit.webhooks.models import Delivery, Endpoint
from msingi.kit.webhooks.testing import HANGS_UP, Got, Receiver, answer, receiving

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EVER = datetime(1, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running() -> AsyncIterator[state.State]:
    """One process for all of them, since making collections takes longer than what is tested with them."""
    async with state.running(test_settings(), [dairy.dairy]) as opened:
        await opened.redis.flushdb()
        await dairy.prepare()
        yield opened
        for product in ("dairy", "kit"):
            await opened.mongo.drop_database(state.database_name(product))


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def receiver(running: state.State) -> AsyncIterator[Receiver]:
    await dairy.empty()
    before = running.settings
    async with receiving() as opened:
        yield opened
    running.settings = before


async def work(after: timedelta = timedelta(0)) -> None:
    """Do what is due after a while; what failed is tried again when it is due."""
    with clock.shifted(after):
        await hooks.look()
        await worker.work_off([dairy.dairy])


def verified(endpoint: Endpoint, got: Got, secret: str = "") -> Any:
    return Webhook(secret or endpoint.secrets[0].text).verify(got.body, got.headers)


def down(got: Got) -> bytes:
    return answer(503)


# ---- what is signed


async def test_p2_a_message_is_signed_so_that_anothers_library_verifies_it(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    await milk("Njeri")
    await work()
    [got] = receiver.got
    said = verified(made, got)
    assert (said["type"], said["data"]) == ("milk.taken", {"cow": "Njeri", "litres": 10})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", said["timestamp"])
    assert (got.path, got.headers["content-type"]) == ("/hooks?token=of-the-receiver", "application/json")
    assert re.fullmatch(r"msg_[0-9a-v]{26}", got.id)
    for wrong in (msgspec.structs.replace(got, body=got.body + b" "), with_header(got, "webhook-id", "msg_other")):
        with pytest.raises(WebhookVerificationError):
            verified(made, wrong)
    with pytest.raises(WebhookVerificationError):
        verified(made, got, signing.new_secret())


def with_header(got: Got, name: str, value: str) -> Got:
    return msgspec.structs.replace(got, headers={**got.headers, name: value})


def test_p2_signatures_agree_with_the_other_library_byte_for_byte() -> None:
    secret, at = signing.new_secret(), clock.now()
    body = '{"cow": "Wanjikũ"}'
    assert signing.signature(secret, "msg_1", int(at.timestamp()), body.encode()) == Webhook(secret).sign(
        "msg_1", at, body
    )


async def test_p2_while_a_secret_is_changed_both_verify_and_then_only_the_new_one(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    before = made.secrets[0].text
    first = await hooks.rotate(made.id, HOUR, ANN)
    await milk("Njeri")
    await work()
    assert verified(made, receiver.got[0], before) == verified(made, receiver.got[0], first.secret)
    second = await hooks.rotate(made.id, timedelta(0), ANN)
    assert second.old_until is None
    await milk("Wambui")
    await work()
    verified(made, receiver.got[1], second.secret)
    for old in (before, first.secret):
        with pytest.raises(WebhookVerificationError):
            verified(made, receiver.got[1], old)


async def test_the_old_secret_signs_no_longer_when_its_time_is_over(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    await hooks.rotate(made.id, HOUR, ANN)
    await milk("Njeri")
    await work(2 * HOUR)
    assert len(receiver.got[0].headers["webhook-signature"].split()) == 1


async def test_d2_secrets_addresses_and_messages_are_unreadable_in_the_database(receiver: Receiver) -> None:
    await endpoint(receiver.url)
    receiver.answer = lambda got: answer(200, b"thanks for Njeri")
    await milk("Njeri")
    await work()
    kept = [
        *await hooks.endpoints.raw.find().to_list(),
        *await hooks.deliveries.raw.find().to_list(),
        *await state.database("kit")["audit"].find().to_list(),
    ]
    for clear in ("whsec_", "of-the-receiver", "thanks for"):
        assert clear not in str(kept)


# ---- once, and again


async def test_what_is_told_twice_is_written_down_once(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    envelope = Milked(cow="Njeri").envelope()
    assert [await dairy.tell.receive(envelope) for _ in range(3)] == [True, False, False]
    await work()
    assert await states(made) == ["delivered"]
    assert len(receiver.got) == 1


async def test_each_endpoint_gets_what_it_asked_for_under_the_same_id(receiver: Receiver) -> None:
    every, milky = await endpoint(receiver.url, ("*",)), await endpoint(receiver.url, ("milk.taken",))
    spilt = await endpoint(receiver.url, ("milk.spilt",))
    await milk("Njeri")
    await work()
    [one], [other] = await log(every), await log(milky)
    assert await log(spilt) == []
    assert one.message_id == other.message_id == receiver.got[0].id == receiver.got[1].id


async def test_c3_a_worker_that_dies_after_sending_sends_the_same_again_and_notes_it_once(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    receiver.answer = lambda got: None  # it has it, and the worker never hears so
    await milk("Njeri")
    dying = asyncio.create_task(work())
    await until(lambda: receiver.got, 20)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await states(made) == ["waiting"]
    receiver.answer = lambda got: answer()
    await work(timedelta(seconds=15))
    assert await states(made) == ["delivered"]
    first, second = receiver.got
    assert (first.id, first.body) == (second.id, second.body)
    [delivery] = await log(made)
    assert delivery.tries == len(delivery.attempts) == 1


async def test_c3_of_two_workers_that_send_the_same_one_writes_it_down(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    await milk("Njeri")
    await catch_up("dairy", [dairy.tell])
    receiver.may_answer.clear()
    both = [asyncio.create_task(hooks.send_due(made.id)) for _ in range(2)]
    await until(lambda: len(receiver.got) == 2, 8)
    receiver.may_answer.set()
    await asyncio.gather(*both)
    [delivery] = await log(made)
    assert (delivery.state, delivery.tries, len({each.id for each in receiver.got})) == ("delivered", 1, 1)


async def test_what_nobody_was_woken_for_is_found_by_the_clock(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    await milk("Njeri")
    await catch_up("dairy", [dairy.tell])
    await state.database("dairy")["jobs"].delete_many({})
    assert await states(made) == ["waiting"]
    await work()
    assert await states(made) == ["delivered"]


async def test_a_message_that_fails_is_sent_again_the_same_with_growing_pauses(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "WAITS", (600, 6000))
    made = await endpoint(receiver.url)
    receiver.answer = lambda got: answer(500, b"Njeri? " * 1000)
    await milk("Njeri")
    await work()
    [delivery] = await log(made)
    assert (delivery.state, delivery.status, delivery.fault) == ("failed", 500, "it answered 500")
    assert delivery.answer == ("Njeri? " * 1000)[:500]
    await work()
    assert len(receiver.got) == 1  # it is not due yet
    await work(timedelta(seconds=750))
    assert len(receiver.got) == 2
    receiver.answer = lambda got: answer(204, b"")
    await work(timedelta(seconds=8250))
    [delivery] = await log(made)
    assert (delivery.state, delivery.tries, delivery.due_at, delivery.fault) == ("delivered", 3, None, "")
    assert [each.status for each in delivery.attempts] == [500, 500, 204]
    assert len({(each.id, each.body) for each in receiver.got}) == 1
    assert len({each.headers["webhook-timestamp"] for each in receiver.got}) == 3
    assert (await now_of(made)).failing_since is None


async def test_a_message_is_given_up_after_ten_tries_in_three_days(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    receiver.answer = lambda got: answer(400)
    await milk("Njeri")
    passed = timedelta(0)
    while "dead" not in await states(made):
        await work(passed)
        [delivery] = await log(made)
        passed = (delivery.due_at or clock.now()) - clock.now() + timedelta(seconds=1)
        assert len(receiver.got) <= 10
    assert len(receiver.got) == delivery.tries == 10
    last = delivery.attempts[-1].at - delivery.attempts[0].at
    assert timedelta(days=2.4) < last < timedelta(days=3.9)


def test_pauses_are_spread_so_that_what_failed_together_does_not_come_back_together() -> None:
    at = clock.now()
    pauses = {sending.next_try(2, at) for _ in range(20)}
    assert len(pauses) > 10
    for pause in pauses:
        assert pause is not None
        assert timedelta(minutes=4) <= pause - at <= timedelta(minutes=6)
    assert sending.next_try(10, at) is None


# ---- receivers that misbehave


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (answer(500), "it answered 500"),
        (answer(302, b"", "location: http://10.0.0.1/inside"), "it answered 302"),
        (answer(200, b"x" * 70_000), "it answered with more than 65536 bytes"),
        (HANGS_UP, "RemoteProtocolError"),
        (b"no HTTP at all\r\n\r\n", "RemoteProtocolError"),
        (answer(200, b"\x1f\x8b", "content-encoding: gzip"), "compressed"),
        (None, "no answer within 1 seconds"),
    ],
    ids=["500", "redirect inside", "huge", "closes midway", "no http", "packed", "slow"],
)
async def test_a_receiver_that_misbehaves_fails_and_is_tried_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, said: bytes | None, fault: str
) -> None:
    monkeypatch.setattr(sending, "WITHIN", 1 if said is None else 60)
    made = await endpoint(receiver.url)
    receiver.answer = lambda got: said
    await milk("Njeri")
    await work()
    [delivery] = await log(made)
    assert delivery.state == "failed"
    assert fault in delivery.fault
    assert len(receiver.got) == delivery.tries == 1
    monkeypatch.setattr(sending, "WITHIN", 60)
    receiver.answer = lambda got: answer()
    await work(timedelta(seconds=20))
    assert await states(made) == ["delivered"]


async def test_i5_a_name_that_leads_inside_is_not_opened(receiver: Receiver) -> None:
    made = await endpoint(f"http://inner.test:{receiver.port}/")
    await milk("Njeri")
    await work()
    [delivery] = await log(made)
    assert (delivery.state, delivery.status, delivery.fault) == ("failed", None, fetch.INNER)
    assert receiver.got == []


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1:{port}/", "ftp://shop.test/", "https://a:b@shop.test:{port}/", "http://shop.test:22/", "x"],
)
async def test_i5_an_address_that_is_never_opened_is_refused_at_once(receiver: Receiver, url: str) -> None:
    with pytest.raises(AddressRefused):
        await endpoint(url.format(port=receiver.port))
    assert await hooks.endpoints.count({}) == 0


async def test_h3_production_sends_nothing_in_the_clear(receiver: Receiver, running: state.State) -> None:
    made = await endpoint(receiver.url)
    running.settings = msgspec.structs.replace(running.settings, env="production")
    with pytest.raises(AddressRefused, match="https://"):
        await endpoint(receiver.url)
    await milk("Njeri")
    await work()
    [delivery] = await log(made)
    assert (delivery.fault, receiver.got) == ("it must begin with https://", [])


async def test_a_setting_lets_ones_own_machine_in_and_production_refuses_it(running: state.State) -> None:
    del running.parts[fetch.Guard]
    with pytest.raises(AddressRefused):
        await fetch.safely("http://127.0.0.1:9/")
    running.parts.pop(fetch.Guard)
    running.settings = test_settings(MSINGI_FETCH_INSIDE="true")
    with pytest.raises(fetch.Unreachable):
        await fetch.safely("http://127.0.0.1:9/")
    production = {"MSINGI_ENV": "production", "MSINGI_FETCH_INSIDE": "true"}
    with pytest.raises(BadSettings, match="MSINGI_FETCH_INSIDE"):
        config.load(Settings, production)


# ---- endpoints that do not answer


async def test_a_receiver_that_is_down_is_not_knocked_at_for_each_message(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "REST", (600.0, 600.0))
    made = await endpoint(receiver.url)
    receiver.answer = down
    await milk(*(f"cow {number}" for number in range(20)))
    await work()
    assert 1 <= len(receiver.got) <= hooks_module.AT_ONCE
    assert (await states(made)).count("waiting") == 20 - len(receiver.got)
    resting = await now_of(made)
    assert (resting.misses, resting.rests_until is not None, resting.failing_since is not None) == (1, True, True)
    await work()
    assert len(receiver.got) <= hooks_module.AT_ONCE
    receiver.answer = lambda got: answer()
    await work(timedelta(seconds=900))
    assert set(await states(made)) == {"delivered"}


async def test_a_receiver_may_say_for_how_long_it_wants_to_be_left_alone(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    receiver.answer = lambda got: answer(429, b"", "retry-after: 120")
    await milk("Njeri")
    await work()
    receiver.answer = lambda got: answer()
    await work(timedelta(seconds=100))
    assert len(receiver.got) == 1
    await work(timedelta(seconds=130))
    assert await states(made) == ["delivered"]


async def test_one_that_never_answers_holds_up_no_other_and_gets_few_at_once(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "WITHIN", 60)
    slow, quick = await endpoint(receiver.url.replace("/hooks", "/slow")), await endpoint(receiver.url)
    receiver.answer = lambda got: None if got.path.startswith("/slow") else answer()
    await milk(*(f"cow {number}" for number in range(12)))
    await catch_up("dairy", [dairy.tell])
    held = asyncio.create_task(hooks.send_due(slow.id))
    await until(lambda: receiver.open == hooks_module.AT_ONCE, 20)
    await hooks.send_due(quick.id)
    assert set(await states(quick)) == {"delivered"}
    assert set(await states(slow)) == {"waiting"}
    assert receiver.open == hooks_module.AT_ONCE
    receiver.closing.set()
    await held
    assert receiver.most_open <= 2 * hooks_module.AT_ONCE


async def test_410_turns_an_endpoint_off_at_once_and_says_so_once(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    receiver.answer = lambda got: answer(410)
    await milk(*(f"cow {number}" for number in range(9)))
    await work()
    await work(DAY)
    assert (await now_of(made)).off == "gone"
    assert len(receiver.got) <= hooks_module.AT_ONCE
    assert set(await states(made)) == {"dead"}
    assert await told_off() == [(made.id, "gone")]


async def test_an_endpoint_that_takes_nothing_for_days_is_turned_off_and_one_that_takes_some_is_not(
    receiver: Receiver,
) -> None:
    made = await endpoint(receiver.url)
    receiver.answer = lambda got: answer(500)
    for day in (0, 4):
        await milk(f"of day {day}")
        await work(day * DAY)
    assert (await now_of(made)).off == ""
    receiver.answer = lambda got: answer(200 if b"taken" in got.body and b"good" in got.body else 500)
    await milk("good", "bad")
    await work(5 * DAY)
    assert (await now_of(made)).off == ""
    receiver.answer = lambda got: answer(500)
    for day in (6, 12):
        await milk(f"of day {day}")
        await work(day * DAY)
    off = await now_of(made)
    assert (off.off, await told_off()) == ("failing", [(made.id, "failing")])


async def test_what_happens_while_it_is_off_is_kept_and_sent_by_hand(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    began = clock.now()
    off = await hooks.change(made.id, {"active": False}, None, ANN)
    await milk("Njeri", "Wambui")
    await work()
    assert (await states(made), receiver.got, off.off) == (["dead", "dead"], [], "by_hand")
    with pytest.raises(problems.WebhookIsOff):
        await hooks.replay_all(made.id, began, None, "all")
    on = await hooks.change(made.id, {"active": True}, None, ANN)
    assert (on.off, on.off_at) == ("", None)
    await work()
    assert receiver.got == []
    assert await hooks.replay_all(made.id, began, None, "undelivered") == (2, False)
    await work()
    assert (await states(made), len(receiver.got)) == (["delivered", "delivered"], 2)
    assert await told_off() == []


# ---- by hand


async def test_a_message_is_sent_once_more_under_its_id(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    await milk("Njeri")
    await work()
    [delivery] = await log(made)
    await hooks.replay(delivery)
    with pytest.raises(problems.DeliveryOnItsWay):
        await hooks.replay(delivery)
    await work()
    first, second = receiver.got
    assert (first.id, first.body) == (second.id, second.body)
    [again] = await log(made)
    assert (again.state, again.tries, len(again.attempts)) == ("delivered", 1, 2)


async def test_all_of_a_time_are_sent_once_more(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await endpoint(receiver.url)
    for day in range(3):
        with clock.shifted(day * DAY):
            await milk(f"of day {day}")
            await catch_up("dairy", [dairy.tell])
    await work(3 * DAY)
    at = clock.now()
    assert await hooks.replay_all(made.id, at, None, "undelivered") == (0, False)
    assert await hooks.replay_all(made.id, at + HOUR, at + DAY + HOUR, "all") == (1, False)
    assert await hooks.replay_all(made.id, EVER, EVER, "all") == (0, False)
    monkeypatch.setattr(hooks_module, "MOST_REPLAYED", 1)
    assert await hooks.replay_all(made.id, at - HOUR, None, "all") == (1, True)
    await work(3 * DAY)
    sent = [msgspec.json.decode(each.body)["data"]["cow"] for each in receiver.got]
    assert sorted(sent) == ["of day 0", "of day 0", "of day 1", "of day 1", "of day 2"]


async def test_a_ping_knocks_even_where_the_receiver_rests(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    receiver.answer = down
    await milk("Njeri")
    await work()
    receiver.answer = lambda got: answer()
    ping = await hooks.ping(made.id)
    await work()
    assert verified(made, receiver.got[-1])["data"] == {"endpoint_id": made.id}
    assert (await hooks.delivery(made, ping.id)).state == "delivered"


async def test_the_log_goes_with_the_endpoint(receiver: Receiver) -> None:
    made, stays = await endpoint(receiver.url), await endpoint(receiver.url)
    await milk("Njeri")
    await work()
    with pytest.raises(Stale):
        await hooks.remove(made.id, 99, ANN)
    await hooks.remove(made.id, made.version, ANN)
    await work()
    assert (await log(made), await states(stays)) == ([], ["delivered"])
    with pytest.raises(NotFound):
        await hooks.endpoint(made.id)


async def test_events_that_nobody_tells_and_endpoints_beyond_the_most_are_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(problems.UnknownWebhookEvents, match=r"of milk.drunk; .* milk.taken, milk.spilt"):
        await endpoint(receiver.url, ("milk.taken", "milk.drunk"))
    monkeypatch.setattr(hooks_module, "MOST_ENDPOINTS", 1)
    await endpoint(receiver.url)
    with pytest.raises(problems.TooManyWebhooks):
        await endpoint(receiver.url)
    with pytest.raises(LookupError):
        await hooks.tell("milk.drunk", {})


# ---- people who are no more


async def test_of_somebody_who_is_no_more_nothing_stays(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    receiver.answer = lambda got: answer(500 if b"Wambui" in got.body else 200, b"so ann has it")
    await milk("Njeri", "Wambui", owner="ann")
    await milk("Zawadi", owner="bob")
    await work()
    assert sorted(await states(made)) == ["delivered", "delivered", "failed"]
    for _ in range(2):
        await hooks.forget("ann")
    found = {msgspec.json.decode(each.body)["data"]["cow"]: each for each in await log(made)}
    assert {cow: (each.person, each.answer) for cow, each in found.items()} == {
        "Wambui": ("", None),
        "Zawadi": ("bob", "so ann has it"),
    }
    assert (await now_of(made)).made_by == ""


async def test_a_log_is_read_in_pages(receiver: Receiver) -> None:
    made = await endpoint(receiver.url)
    await milk(*(f"cow {number}" for number in range(5)))
    await work()
    page = await hooks.log(made, {"state": "delivered"}, Paging(limit=3))
    rest = await hooks.log(made, {"state": "delivered"}, Paging(limit=3, after=page.next))
    assert [*page.items, *rest.items] == list(reversed(await log(made)))
    assert (await hooks.all(Paging())).items == [await now_of(made)]


@pytest.mark.parametrize(
    ("where", "sort"),
    [
        ({"endpoint_id": "one", "due_at": {"$lte": clock.now() + DAY}}, [("due_at", 1)]),
        ({"endpoint_id": "one"}, [("_id", -1)]),
        ({"endpoint_id": "one", "state": "dead", "_id": {"$gte": "0"}}, [("_id", 1)]),
        ({"person": "ann"}, [("_id", 1)]),
    ],
    ids=["what is due", "the log", "what was given up", "whose it is"],
)
async def test_no_question_looks_at_more_than_it_finds(where: dict[str, Any], sort: list[tuple[str, int]]) -> None:
    await hooks.deliveries.raw.insert_many(
        [
            hooks.deliveries.dump(
                Delivery(
                    endpoint_id="one" if number < 3 else "other",
                    message_id=f"msg_{number}",
                    type="ping",
                    body="{}",
                    person="ann" if number < 3 else "",
                    state="dead" if number < 3 else "waiting",
                )
            )
            for number in range(50)
        ]
    )
    plan = await hooks.deliveries.raw.find(where, sort=sort).explain()
    did = plan["executionStats"]
    assert (did["nReturned"], did["totalDocsExamined"]) == (3, 3)
