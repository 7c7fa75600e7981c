"""Letters, against mail servers that speak real SMTP and misbehave on purpose."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from aiosmtpd.controller import Controller
from litestar import Litestar

from msingi.kit import clock, db, mail, replies, state
from msingi.kit.config import DEVELOPMENT_SECRET
from msingi.kit.db import Paging
from msingi.kit.errors import Stale
from msingi.kit.product import Product
from msingi.kit.tests.waiting import beside
from msingi.kit.unit import atomic, guarded

LETTERS = {
    "late.en.txt": "Subject: {{ title }} is late\nHello {{ name }},\n{{ title }} was due. {{ base_url }}\n",
    "late.en.html": '{% extends "kit/letter.html" %}{% block content %}<p>{{ title }}</p>{% endblock %}',
    "late.sw.txt": "Subject: {{ title }} imechelewa\nHabari {{ name }}.\n",
    "broken.en.txt": "Subject: Broken\n{{ nobody_gave_this }}\n",
}


class PostOffice:
    """A mail server that can be told to misbehave: `says` answers a recipient or the content with something else."""

    def __init__(self) -> None:
        self.port = free_port()
        self.taken: list[EmailMessage] = []
        self.to_recipient = self.to_content = ""
        self.delay = 0.0
        self.most = 1000  # letters to a conversation
        self.ending = "421 4.7.0 too many letters"  # how it is ended then; if empty, without a word
        self.carried: dict[Any, int] = {}  # letters of each conversation
        self.controller: Controller | None = None

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if self.to_recipient:
            return self.to_recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        self.carried[session.peer] = self.carried.get(session.peer, 0) + 1
        if self.carried[session.peer] > self.most:
            if not self.ending:
                server.transport.close()
            return self.ending
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.taken.append(message_from_bytes(envelope.original_content, policy=default))
        await asyncio.sleep(self.delay)
        return self.to_content or "250 taken"

    def open(self) -> None:
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    def close(self) -> None:
        if self.controller:
            self.controller.stop()
            self.controller = None

    @property
    def ids(self) -> list[str]:
        return [str(each["Message-ID"]) for each in self.taken]


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port


@pytest.fixture
def office() -> Iterator[PostOffice]:
    office = PostOffice()
    yield office
    office.close()


@pytest_asyncio.fixture
async def house(running: state.State, tmp_path: Path) -> state.State:
    """A process with one product that has letters to write."""
    folder = tmp_path / "templates" / "letters"
    folder.mkdir(parents=True)
    for name, text in LETTERS.items():
        (folder / name).write_text(text)
    running.products = [Product(name="errands", title="Errands", summary="What is to be done.", folder=tmp_path)]
    await db.prepare(mail.stores())
    return running


@pytest_asyncio.fixture
async def posted(house: state.State, office: PostOffice) -> state.State:
    """The same, with a mail server to send through."""
    return through(house, office)


def through(house: state.State, office: PostOffice) -> state.State:
    house.settings = msgspec.structs.replace(house.settings, smtp_url=f"smtp://127.0.0.1:{office.port}")
    return house


async def write(to: str = "bob@msingi.test", **changes: Any) -> mail.Letter:
    context = {"title": "Hay", "name": "Bob", **changes}
    return await mail.send("late", to, product="errands", **context)


async def now_it_is(letter: mail.Letter) -> mail.Letter:
    return await mail.letters.get(letter.id)


async def until_heard(house: state.State) -> None:
    """Wait until a worker listens, and its first sweep has found nothing."""
    channel = f"{house.settings.database}:letters"
    async with asyncio.timeout(5):
        while not (await house.redis.pubsub_numsub(channel))[0][1]:
            await asyncio.sleep(0.02)


async def until(true: Callable[[], Any], within: float = 10) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_letter_reaches_the_mail_server_whole(posted: state.State, office: PostOffice) -> None:
    office.open()
    letter = await mail.send(
        "late",
        "bob@msingi.test",
        product="errands",
        unsubscribe="https://msingi.test/u/1",
        title="Hay & <oats>",
        name="Bób",
    )
    assert await mail.deliver(letter.id) == "delivered"
    [got] = office.taken
    text, html = got.get_body(("plain",)), got.get_body(("html",))
    assert text
    assert html
    assert got["Subject"] == "Hay & <oats> is late"
    assert got["To"] == "bob@msingi.test"
    assert got["Message-ID"] == f"<{letter.id}@msingi.test>"
    assert got["List-Unsubscribe"] == "<https://msingi.test/u/1>"
    assert got["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert text.get_content().splitlines()[:2] == ["Hello Bób,", f"Hay & <oats> was due. {posted.settings.base_url}"]
    assert "<p>Hay &amp; &lt;oats&gt;</p>" in html.get_content()


async def test_a_letter_waits_for_the_commit_and_dies_with_a_failed_one(posted: state.State) -> None:
    @atomic
    async def fails() -> None:
        await write()
        assert await mail.letters.raw.count_documents({}) == 0  # seen from outside of the transaction
        raise LookupError

    with pytest.raises(LookupError):
        await fails()
    assert await mail.written() == []


async def test_a_letter_is_a_write_of_its_own(posted: state.State) -> None:
    @guarded
    async def two_writes() -> None:
        await write()
        await write()

    with pytest.raises(RuntimeError, match="second write"):
        await two_writes()


async def test_a_running_worker_sends_at_once(posted: state.State, office: PostOffice) -> None:
    office.open()
    async with beside(mail.run):
        await until_heard(posted)
        first = await write()
        await until(lambda: office.taken, within=3)  # well before the next sweep
        assert office.ids == [f"<{first.id}@msingi.test>"]


async def test_c7_a_letter_leaves_within_a_minute_of_a_refusing_servers_return(
    posted: state.State, office: PostOffice
) -> None:
    letter = await write()
    for minutes in range(0, 50, 5):
        with clock.shifted(timedelta(minutes=minutes)):
            assert await mail.deliver(letter.id) == "closed"
    office.open()
    with clock.shifted(timedelta(minutes=45, seconds=60)):
        assert await mail.deliver_due() == 1
    assert (await now_it_is(letter)).state == "delivered"


@pytest.mark.parametrize("where", ["to_recipient", "to_content"])
async def test_c7_a_letter_leaves_within_a_minute_after_451(
    posted: state.State, office: PostOffice, where: str
) -> None:
    office.open()
    letter = await write()
    setattr(office, where, "451 4.3.0 later")
    for minutes in range(0, 50, 5):
        with clock.shifted(timedelta(minutes=minutes)):
            assert await mail.deliver(letter.id) == "put off"
    assert (await now_it_is(letter)).fault.startswith("451 ")
    setattr(office, where, "")
    with clock.shifted(timedelta(minutes=45, seconds=60)):
        assert await mail.deliver_due() == 1
    assert (await now_it_is(letter)).state == "delivered"


async def test_c7_a_hanging_server_holds_up_nobody_for_long_and_knows_the_letter_again(
    posted: state.State, office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "CONVERSATION", 0.3)
    office.open()
    office.delay = 2
    letters = [await write() for _ in range(8)]
    assert await asyncio.wait_for(mail.deliver_due(), 2) == 0
    # It stopped at the first four: the other four were not even tried.
    assert sorted([(await now_it_is(each)).tries for each in letters]) == [0, 0, 0, 0, 1, 1, 1, 1]
    office.delay = 0
    with clock.shifted(timedelta(seconds=60)):
        assert await mail.deliver_due() == 8
    assert len(office.ids) == 12
    assert set(office.ids) == {f"<{each.id}@msingi.test>" for each in letters}


async def test_c7_a_refused_letter_is_dead_and_can_be_seen_and_tried_again(
    posted: state.State, office: PostOffice
) -> None:
    office.open()
    office.to_recipient = "550 5.1.1 no such person"
    letter = await write()
    assert await mail.deliver(letter.id) == "dead"
    page = await mail.dead(Paging())
    assert [(each.id, each.fault) for each in page.items] == [(letter.id, "550 5.1.1 no such person")]
    assert await mail.deliver(letter.id) == "not ours"
    office.to_recipient = ""
    await mail.again(letter.id)
    with pytest.raises(Stale):
        await mail.again(letter.id)
    assert await mail.deliver(letter.id) == "delivered"
    assert len(office.taken) == 1


async def test_d4_what_a_server_repeats_of_an_address_is_not_logged(
    posted: state.State, office: PostOffice, capsys: pytest.CaptureFixture[str]
) -> None:
    office.open()
    office.to_recipient = "550 5.1.1 <bob@msingi.test>: nobody here; ask postmaster@msingi.test"
    assert await mail.deliver((await write()).id) == "dead"
    said = "".join(capsys.readouterr())
    assert "letter_died" in said
    assert "nobody here" in said
    assert "@msingi.test" not in said


async def test_c7_a_server_that_refuses_us_kills_no_letter(posted: state.State, office: PostOffice) -> None:
    office.open()
    posted.settings = msgspec.structs.replace(posted.settings, smtp_url=f"smtp://house:wrong@127.0.0.1:{office.port}")
    letter = await write()
    assert await mail.deliver(letter.id) == "closed"
    assert (await now_it_is(letter)).state == "waiting"


async def test_c7_patience_ends_after_days(posted: state.State) -> None:
    letter = await write()
    with clock.shifted(mail.PATIENCE - timedelta(minutes=1)):
        assert await mail.deliver(letter.id) == "closed"
    with clock.shifted(mail.PATIENCE + timedelta(minutes=1)):
        assert await mail.deliver(letter.id) == "dead"


async def test_many_workers_send_a_letter_once(posted: state.State, office: PostOffice) -> None:
    office.open()
    letters = [await write() for _ in range(5)]
    tries = [mail.deliver(letter.id) for letter in letters for _ in range(6)]
    results = await asyncio.gather(*tries, mail.deliver_due(), mail.deliver_due())
    assert len(office.ids) == 5
    assert set(office.ids) == {f"<{each.id}@msingi.test>" for each in letters}
    assert results[-1] + results[-2] + results[:-2].count("delivered") == 5  # type: ignore[operator]


async def test_a_conversation_with_a_mail_server_carries_one_letter_after_the_other(
    posted: state.State, office: PostOffice
) -> None:
    office.open()
    await write_all(12)
    assert await mail.deliver_due() == 12
    assert sum(office.carried.values()) == len(set(office.ids)) == 12
    assert len(office.carried) == mail.AT_ONCE


@pytest.mark.parametrize("ending", ["421 4.7.0 too many letters", "451 4.7.0 slower", ""])
async def test_a_mail_server_that_ends_a_conversation_gets_the_next_letter_in_another(
    posted: state.State, office: PostOffice, ending: str
) -> None:
    office.most, office.ending = 2, ending
    office.open()
    await write_all(12)
    assert await mail.deliver_due() == 12
    assert len(office.ids) == len(set(office.ids)) == 12
    assert {each.tries for each in await mail.written()} == {1}


async def test_a_letter_that_is_refused_does_not_end_the_conversation(posted: state.State, office: PostOffice) -> None:
    office.to_recipient = "550 5.1.1 no such person"
    office.open()
    await write_all(12)
    assert await mail.deliver_due() == 0
    assert {each.state for each in await mail.written()} == {"dead"}
    assert len(office.carried) == mail.AT_ONCE


async def test_many_letters_of_an_inbox_are_claimed_once_and_noted_together(
    house: state.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    apply_each = mail.letters.apply_each

    async def counted(changes: Any) -> int:
        sizes.append(len(changes))
        return await apply_each(changes)

    monkeypatch.setattr(mail.letters, "apply_each", counted)
    await write_all(30)
    assert sum(await asyncio.gather(*(mail.deliver_due() for _ in range(4)))) == 30
    found = await mail.written()
    assert {(each.state, each.tries, each.by, each.text[:9]) for each in found} == {("delivered", 1, None, "Hello Bob")}
    assert len(sizes) <= 4 * 2 + 4  # a claim and a note of each round, and what came while a note was written


@atomic
async def write_all(count: int) -> None:
    said = {"title": "Hay", "name": "Bob"}
    await mail.send_all([mail.letter("late", "bob@msingi.test", product="errands", **said) for _ in range(count)])


async def test_many_letters_at_once_wait_for_the_commit_too(house: state.State) -> None:
    @atomic
    async def write_and_fail() -> None:
        await write_all(3)
        raise RuntimeError("the pen broke")

    with pytest.raises(RuntimeError):
        await write_and_fail()
    assert await mail.written() == []
    await write_all(2)
    assert len(await mail.written_to("bob@msingi.test")) == 2


async def test_who_lost_a_claim_notes_nothing(house: state.State) -> None:
    [late] = await mail._claim([(await write()).id])
    with clock.shifted(mail.LEASE + timedelta(seconds=1)):
        [taken_over] = await mail._claim([late.id])
        await mail.Turn().note(late, {"state": "dead"})
        assert (await now_it_is(late)).state == "sending"
        await mail.Turn().note(taken_over, {"state": "delivered"})
    assert (await now_it_is(late)).state == "delivered"


async def test_a_letter_of_a_killed_worker_is_taken_up_when_its_claim_ends(
    posted: state.State, office: PostOffice
) -> None:
    letter = await write()
    assert await mail._claim([letter.id])
    office.open()
    assert await mail.deliver_due() == 0
    with clock.shifted(mail.LEASE + timedelta(seconds=1)):
        assert await mail.deliver_due() == 1
    assert len(office.taken) == 1


async def test_i1_no_value_reaches_a_header(posted: state.State, office: PostOffice) -> None:
    office.open()
    letter = await write(title="Hay\r\nBcc: eve@msingi.test\r\n\r\nBuy", name="{{ 7 * 7 }}")
    assert await mail.deliver(letter.id) == "delivered"
    [got] = office.taken
    assert got["Subject"] == "Hay Bcc: eve@msingi.test Buy is late"
    assert got["Bcc"] is None
    text = got.get_body(("plain",))
    assert text
    assert text.get_content().startswith("Hello {{ 7 * 7 }},")


@pytest.mark.parametrize(
    "address",
    [
        "bob",
        "@msingi.test",
        "bob@",
        "bob@x\r\nBcc: eve@x",
        "a@x,b@x",
        "Bob <bob@x>",
        "bob@x\x00",
        "b" * 250 + "@x.test",
    ],
)
async def test_i1_what_is_no_address_gets_no_letter(posted: state.State, address: str) -> None:
    with pytest.raises(mail.BadAddress):
        await write(address)
    assert await mail.written() == []


async def test_the_language_falls_back_to_english(house: state.State) -> None:
    swahili = await mail.send("late", "bob@x.test", language="sw", product="errands", title="Nyasi", name="Bob")
    french = await mail.send("late", "bob@x.test", language="fr", product="errands", title="Hay", name="Bob")
    assert mail.rendered(swahili).subject == "Nyasi imechelewa"
    assert mail.rendered(french).subject == "Hay is late"
    with pytest.raises(LookupError, match=r"errands/letters/unknown\.en\.txt"):
        await mail.send("unknown", "bob@x.test", product="errands")


async def test_a_letter_is_worded_as_its_template_reads_now(house: state.State, tmp_path: Path) -> None:
    letter = await write()
    assert mail.rendered(letter).subject == mail.rendered(letter).subject == "Hay is late"
    (tmp_path / "templates" / "letters" / "late.en.txt").write_text("Subject: {{ title }}!\nHello\n")
    assert mail.rendered(letter).subject == "Hay!"


async def test_a_template_that_fails_kills_the_letter_visibly(house: state.State) -> None:
    letter = await mail.send("broken", "bob@x.test", product="errands")
    assert await mail.deliver(letter.id) == "dead"
    assert (await now_it_is(letter)).fault == "template: 'nobody_gave_this' is undefined"


async def test_the_caller_names_the_product() -> None:
    assert mail._product_of("msingi.products.tasks.actions") == "tasks"
    assert mail._product_of("msingi.console.pages") == "console"
    with pytest.raises(LookupError):
        mail._product_of("somewhere.else")


@pytest_asyncio.fixture
async def inbox(house: state.State) -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar(mail.mail_pages, openapi_config=None, exception_handlers=replies.HANDLERS)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://msingi.test") as client:
        yield client


async def test_without_a_mail_server_development_keeps_letters_in_an_inbox(
    house: state.State, inbox: httpx.AsyncClient
) -> None:
    letter = await write(title="<script>alert(1)</script>")
    assert await mail.deliver_due() == 1
    assert [(each.template, each.to, each.state) for each in await mail.written()] == [
        ("late", "bob@msingi.test", "delivered")
    ]
    page = await inbox.get("/mail")
    assert page.status_code == 200
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is late" in page.text
    assert "<script" not in page.text
    shown = await inbox.get("/mail?to=bob@msingi.test", headers={"accept": "application/json"})
    assert [each["text"][:10] for each in shown.json()["items"]] == ["Hello Bob,"]
    assert (await inbox.get("/mail?to=eve@msingi.test", headers={"accept": "application/json"})).json() == {"items": []}
    assert "Hello Bob," in (await inbox.get(f"/mail/{letter.id}")).text
    html = await inbox.get(f"/mail/{letter.id}/html")
    assert "&lt;script&gt;" in html.text
    assert html.headers["content-security-policy"].startswith("sandbox")


async def test_d4_production_has_no_inbox_and_forgets_what_a_letter_knew(
    house: state.State, office: PostOffice, inbox: httpx.AsyncClient
) -> None:
    office.open()
    assert house.settings.secret == DEVELOPMENT_SECRET  # the settings are changed in place, past the check at boot
    house.settings = msgspec.structs.replace(through(house, office).settings, env="production")
    letter = await write(name="secret-token")
    assert await mail.deliver(letter.id) == "delivered"
    row = await mail.letters.raw.find_one({"_id": letter.id})
    assert "secret-token" not in str(row)
    assert "secret-token" in str(office.taken[0])
    for path in ("/mail", f"/mail/{letter.id}", f"/mail/{letter.id}/html"):
        assert (await inbox.get(path)).status_code == 404
