"""Letters: written in the transaction they belong to, sent by the worker until a mail server takes or refuses them.

Nobody waits for a mail server: `send` stores a row, `run` in the worker claims it, renders it and speaks SMTP. A row is
claimed by one worker at a time; after a crash it is tried again under the same Message-ID, by which a mail
server or a reader can tell that it is the same letter. Letters that are due are claimed together and their ends noted
together (docs/decisions/0019).
"""

import asyncio
import re
import ssl
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from email.utils import format_datetime, parseaddr
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import aiosmtplib
import jinja2
import structlog
from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler
from msgspec import Struct, field
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from msingi.kit import breaker, fetch, pages, sealing, sms, state, unit
from msingi.kit.clock import now
from msingi.kit.db import SEALED, Change, Collection, Doc, Index, Page, Paging
from msingi.kit.errors import Invalid, NotFound, Stale
from msingi.kit.ids import new_id

AnyRequest = Request[Any, Any, Any]
log = structlog.get_logger("mail")

SWEEP = 5.0  # seconds between two looks for what is due
CONVERSATION = 20.0  # seconds that one letter may take a mail server
FAREWELL = 1.0  # seconds that it may take to say goodbye
LEASE = timedelta(seconds=60)  # how long a claim holds; well above CONVERSATION
PATIENCE = timedelta(days=3)  # how long a letter that is put off is tried again
AT_ONCE = 4  # letters that one worker sends at the same time
KEPT = 90 * 24 * 3600  # seconds that a letter that left, or died, can be looked at
SHUT_IN = "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
SHOWN = (
    *("id", "kind", "product", "template", "to", "language", "state"),
    *("subject", "text", "html", "fault", "created_at"),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


class BadAddress(Invalid):
    """This is not an address that a letter can be sent to."""


class Letter(Doc):
    """One letter, or text message (`sms`), to one person, from the moment it is written."""

    product: str
    template: str
    to: Annotated[str, SEALED]
    to_key: str = ""  # what stands for the address where it is looked up
    kind: Literal["mail", "sms"] = "mail"
    language: str = "en"
    context: Annotated[dict[str, Any], SEALED] = field(default_factory=dict)
    unsubscribe: str = ""
    state: Literal["waiting", "sending", "delivered", "dead"] = "waiting"
    due: datetime = field(default_factory=now)
    until: datetime | None = None  # when it is of no use any more
    lease: datetime | None = None
    by: str | None = None  # the claim under which it is sent
    tries: int = 0
    fault: Annotated[str, SEALED] = ""  # a server's own words may name the address
    ended_at: datetime | None = None
    subject: Annotated[str, SEALED] = ""
    text: Annotated[str, SEALED] = ""
    html: Annotated[str, SEALED] = ""


letters = Collection(Letter, "letters", indexes=["state due", "to_key -_id", Index("ended_at", expires_after=KEPT)])
letters.product = "kit"


def stores() -> list[Collection[Any]]:
    """The collections that letters are kept in: the house's own, shared by all products."""
    return [letters]


# ---- writing


def send(
    template: str, /, to: str, *, language: str = "en", product: str = "", unsubscribe: str = "", **context: Any
) -> Coroutine[Any, Any, Letter]:
    """Write a letter: it leaves when the unit under way has committed, and never if that fails.

    The texts are `letters/<template>.<language>.txt` (its first line is `Subject: …`) and, if there is one,
    `….html`, in the templates of `product`, which is by itself the product whose code calls. `context` (what JSON
    can say) is what they may use; what is secret in it is forgotten once the letter has left. `unsubscribe` is an
    https address that answers RFC 8058's one-click POST. It is a write of its own, so it belongs in an @atomic action
    or outside of any. Raises BadAddress; LookupError if no such letter is written in English.
    """
    owner = product or _product_of(sys._getframe(1).f_globals.get("__name__", ""))
    return _write(letter(template, to, language=language, product=owner, unsubscribe=unsubscribe, **context))


def letter(
    template: str, /, to: str, *, product: str, language: str = "en", unsubscribe: str = "", **context: Any
) -> Letter:
    """A letter as `send` writes it, to be written with others by `send_all`. Raises BadAddress, LookupError."""
    return Letter(
        product=product,
        template=template,
        to=_address(to),
        language=_language(product, template, language),
        context=context,
        unsubscribe=unsubscribe,
    )


async def send_all(written: Sequence[Letter]) -> None:
    """Write many letters in one go, in the @atomic action under way."""
    if not written:
        return
    for each in written:
        each.to_key = _key_of(each.to)
    await letters.add_many(written)
    unit.after_commit(_wake)


def text(
    template: str, /, to: str, *, language: str = "en", product: str = "", until: datetime | None = None, **context: Any
) -> Coroutine[Any, Any, Letter]:
    """Write a text message to a number in E.164 (`sms.number_of`); all else is as with `send`.

    The template's first line is a subject too, which only our own lists show. What has not left by `until` never does.
    """
    owner = product or _product_of(sys._getframe(1).f_globals.get("__name__", ""))
    return _write(
        Letter(
            kind="sms",
            product=owner,
            template=template,
            to=to,
            language=_language(owner, template, language),
            context=context,
            until=until,
        )
    )


async def _write(letter: Letter) -> Letter:
    if unit.current.get() is None:
        async with unit.alone():
            return await _write(letter)
    letter.to_key = _key_of(letter.to)
    await letters.add(letter)
    unit.after_commit(_wake)
    return letter


def _key_of(address: str) -> str:
    return sealing.blind("mail.to", address)


class Here:
    """The sender of letters of this process, if it is one, and whether it rests."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.rests = False


async def _wake() -> None:
    """Tell the workers that there is a letter. Whatever keeps this from arriving, their next sweep finds it.

    One of this process that rests sends it at once, so that the others need not hear of it.
    """
    here = state.part(Here)
    here.wake.set()
    if here.rests:
        return
    await breaker.ask(lambda: state.redis().publish(_channel(), b""), 0)


def _channel() -> str:
    return f"{state.settings().database}:letters"


def _product_of(module: str) -> str:
    found = re.match(r"msingi\.products\.(\w+)", module) or re.match(r"msingi\.(\w+)", module)
    if found is None:
        raise LookupError(f"say product=…: the module {module} belongs to none")
    return found[1]


def _address(text: str) -> str:
    """One bare address: no name, no list, nothing that could end a header. Raises BadAddress."""
    local, at, domain = text.rpartition("@")
    if not (at and local and domain) or len(text) > 254 or re.search(r'[\s\x00-\x1f\x7f,;:<>()\[\]"\\]', text):
        raise BadAddress
    return text


def _language(product: str, template: str, language: str) -> str:
    """The language to write in: the one asked for, if the letter is written in it, else English."""
    for each in (language, "en"):
        with suppress(jinja2.TemplateNotFound):
            pages.environment().get_template(_name(product, template, each))
            return each
    raise LookupError(f"there is no letter {_name(product, template, 'en')}")


def _name(product: str, template: str, language: str, kind: str = "txt") -> str:
    return f"{product}/letters/{template}.{language}.{kind}"


# ---- reading


async def written(limit: int = 1000) -> list[Letter]:
    """The letters that are kept, oldest first."""
    return await letters.many({}, sort=[("_id", 1)], limit=limit)


async def dead(paging: Paging) -> Page[Letter]:
    """The letters that were given up, newest first."""
    return await letters.page({"state": "dead"}, paging)


async def written_to(address: str) -> list[Letter]:
    """The letters to an address that are kept, oldest first."""
    return await letters.many({"to_key": _key_of(address)}, sort=[("_id", 1)], limit=0)


async def forget(address: str) -> int:
    """Remove the letters to an address, in the unit under way, sent or not; returns how many."""
    return await letters.remove_many({"to_key": _key_of(address)})


async def again(id: str) -> Letter:
    """Try a dead letter once more from the start. Raises NotFound, and Stale if it is not dead."""
    await letters.get(id)
    fresh = {"state": "waiting", "due": now(), "tries": 0, "created_at": now(), "ended_at": None}
    async with unit.alone():
        unit.after_commit(_wake)
        return await letters.change(id, {"$set": fresh}, when={"state": "dead"}, otherwise=Stale)


# ---- sending


async def run() -> None:
    """Send letters until cancelled: at once when one is written, and each few seconds what is due."""
    here = state.part(Here)
    async with asyncio.TaskGroup() as group:
        group.create_task(_listen(here.wake))
        group.create_task(_sweep_for_ever(here))


async def _sweep_for_ever(here: Here) -> None:
    while True:
        here.wake.clear()
        try:
            more = await sweep()
        except PyMongoError:
            log.warning("letters_unreachable", exc_info=True)
            more = False
        if not more:
            await _rest(here)


async def _rest(here: Here) -> None:
    here.rests = True
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(here.wake.wait(), SWEEP)
    finally:
        here.rests = False


async def _listen(wake: asyncio.Event) -> None:
    while True:
        with suppress(RedisError, OSError):
            async with state.slow_redis() as redis, redis.pubsub() as told:
                await told.subscribe(_channel())
                async for _ in told.listen():
                    wake.set()
        await asyncio.sleep(1)


async def sweep(limit: int = 100) -> bool:
    """Send what is due, at most `limit`; whether there may be more. The same as `deliver_due`, for a worker's round."""
    return await deliver_due(limit) >= limit


async def deliver_due(limit: int = 100) -> int:
    """Send the letters that are due, the longest waiting first; returns how many left.

    It stops when the mail server as a whole does not answer: one knock tells as much as a thousand.
    """
    gone = 0
    ids = await _due(limit)
    async with Turn() as turn:
        while ids:
            count = AT_ONCE if _is_far() else len(ids)
            batch, ids = ids[:count], ids[count:]
            sending = [_deliver(each, turn) for each in await _claim(batch)]
            results = await asyncio.gather(*sending, return_exceptions=True)
            for fault in results:  # each has had its end before one that could not be noted ends the turn
                if isinstance(fault, BaseException):
                    raise fault
            gone += results.count("delivered")
            if "closed" in results:
                break
    return gone


def _is_far() -> bool:
    """Whether somebody has to be spoken with, so that only so many letters are taken as leave within their lease."""
    settings = state.settings()
    return bool(settings.production or settings.smtp_url or settings.sms_url)


async def _due(limit: int) -> list[str]:
    at = now()
    waiting = {"state": "waiting", "due": {"$lte": at}}
    abandoned = {"state": "sending", "lease": {"$lte": at}}
    return await letters.ids({"$or": [waiting, abandoned]}, sort=[("due", 1)], limit=limit)


Result = Literal["delivered", "put off", "closed", "dead", "not ours"]


async def deliver(letter_id: str) -> Result:
    """Send one letter, if it is due and no other worker has it; returns how that went.

    `closed` means that no mail server spoke with us, `put off` that it wants this letter later (4xx), `dead` that it
    refused it (5xx), that its template failed, or that PATIENCE ran out.
    """
    claimed = await _claim([letter_id])
    if not claimed:
        return "not ours"
    async with Turn() as turn:
        return await _deliver(claimed[0], turn)


async def _deliver(letter: Letter, turn: "Turn") -> Result:
    try:
        said = rendered(letter)
    except jinja2.TemplateError as fault:
        return await _bury(letter, turn, f"template: {fault}")
    if letter.until is not None and letter.until <= now():
        return await _bury(letter, turn, "too late to be of use")
    return await (_text if letter.kind == "sms" else _post)(letter, turn, said)


async def _claim(ids: Sequence[str]) -> list[Letter]:
    """Those of these that are ours now."""
    by, at = new_id(), now()
    free = [{"state": "waiting", "due": {"$lte": at}}, {"state": "sending", "lease": {"$lte": at}}]
    claim = {"$set": {"state": "sending", "lease": at + LEASE, "by": by}, "$inc": {"tries": 1}}
    async with unit.alone():
        return await letters.claim(ids, by, claim, {"$or": free}, sort=[("due", 1)])


async def _post(letter: Letter, turn: "Turn", said: "Said") -> Result:
    url = state.settings().smtp_url
    if not url and not state.settings().production:
        return await _delivered(letter, turn, said)
    try:
        async with asyncio.timeout(CONVERSATION):
            await turn.speak(url, _message(letter, said), letter.to)
    except aiosmtplib.SMTPResponseException as fault:
        return await _answered(letter, turn, fault.code, f"{fault.code} {fault.message}", about=type(fault))
    except aiosmtplib.SMTPRecipientsRefused as fault:
        first = fault.recipients[0]
        return await _answered(letter, turn, first.code, f"{first.code} {first.message}", about=type(first))
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ssl.SSLError) as fault:
        return await _put_off(letter, turn, f"{type(fault).__name__}: {fault}", "closed")
    return await _delivered(letter, turn, said)


async def _text(letter: Letter, turn: "Turn", said: "Said") -> Result:
    if not state.settings().sms_url and not state.settings().production:
        return await _delivered(letter, turn, said)
    try:
        async with asyncio.timeout(CONVERSATION):
            await sms.speak(letter.to, said.text.strip())
    except sms.NotTaken as fault:
        if fault.about == "number":
            return await _bury(letter, turn, str(fault))
        return await _put_off(letter, turn, str(fault), "put off")
    except (fetch.Unreachable, fetch.ReplyTooLarge, TimeoutError) as fault:
        return await _put_off(letter, turn, f"{type(fault).__name__}: {fault}", "put off")
    return await _delivered(letter, turn, said)


# How a mail server ends a conversation that has carried letters already: it may take the next one in another.
HAD_ENOUGH = (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPSenderRefused)

# What a mail server may say of one letter; all else it says of itself or of us, which no letter dies of.
ABOUT_THE_LETTER = (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError)


async def _answered(letter: Letter, turn: "Turn", code: int, fault: str, about: type[Exception]) -> Result:
    if code == 421 or not issubclass(about, ABOUT_THE_LETTER):
        return await _put_off(letter, turn, fault, "closed")
    return await _bury(letter, turn, fault) if code >= 500 else await _put_off(letter, turn, fault, "put off")


async def _put_off(letter: Letter, turn: "Turn", fault: str, result: Result) -> Result:
    """Try it again later: soon in the first hour, so that it leaves within a minute of the server's return."""
    if now() - letter.created_at > PATIENCE:
        return await _bury(letter, turn, fault)
    young = now() - letter.created_at < timedelta(hours=1)
    most = 20 if result == "closed" else 40 if young else 900
    wait = min(2.0 ** min(letter.tries, 10), most)
    await turn.note(letter, {"state": "waiting", "due": now() + timedelta(seconds=wait), "fault": _line(fault)})
    log.warning("letter_put_off", letter=letter.id, template=letter.template, tries=letter.tries, wait=wait)
    return result


async def _bury(letter: Letter, turn: "Turn", fault: str) -> Result:
    await turn.note(letter, {"state": "dead", "fault": _line(fault), "ended_at": now()})
    told = _unnamed(fault, letter)
    log.error("letter_died", letter=letter.id, template=letter.template, tries=letter.tries, fault=told)
    return "dead"


async def _delivered(letter: Letter, turn: "Turn", said: "Said") -> Result:
    kept: dict[str, Any] = {"context": {}} if state.settings().production else {"text": said.text, "html": said.html}
    await turn.note(letter, {"state": "delivered", "subject": said.subject, "fault": "", "ended_at": now(), **kept})
    log.info("letter_delivered", letter=letter.id, template=letter.template, tries=letter.tries)
    return "delivered"


class Turn:
    """What the letters of one turn share: conversations with the mail server, and notes of what became of them."""

    def __init__(self) -> None:
        self.idle: list[aiosmtplib.SMTP] = []
        self.waiting: list[Change] = []
        self.writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Turn":
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await asyncio.gather(*(each.quit() for each in self.idle), return_exceptions=True)
        for each in self.idle:
            each.close()

    async def speak(self, url: str, message: EmailMessage, to: str) -> None:
        """Hand a letter over, in a conversation that has carried others if there is one. Raises what is said."""
        if self.idle:
            with suppress(*HAD_ENOUGH):
                return await self._say(self.idle.pop(), message, to)
        client = _client(url)
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        return await self._say(client, message, to)

    async def _say(self, client: aiosmtplib.SMTP, message: EmailMessage, to: str) -> None:
        try:
            await client.send_message(message, sender=parseaddr(message["From"])[1], recipients=[to])
        except aiosmtplib.SMTPRecipientsRefused:
            self.idle.append(client)  # what is wrong is wrong with the letter
            raise
        except BaseException:
            client.close()
            raise
        self.idle.append(client)

    async def note(self, letter: Letter, to: dict[str, Any]) -> None:
        """Note the outcome, unless the claim ran out and another worker holds the letter now. Raises PyMongoError.

        Those that come while one command is under way are written in the next.
        """
        self.waiting.append(Change(letter.id, {"$set": {"lease": None, "by": None, **to}}, {"by": letter.by}))
        if self.writing is None or self.writing.done():
            self.writing = asyncio.create_task(self._write())
        await asyncio.shield(self.writing)

    async def _write(self) -> None:
        while self.waiting:
            await asyncio.sleep(0)
            some, self.waiting = self.waiting, []
            async with unit.alone():
                found = await letters.apply_each(some)
            if found < len(some):
                log.warning("letter_claims_lost", count=len(some) - found, letters=[each.id for each in some])


def _line(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()[:300]


def _unnamed(fault: str, letter: Letter) -> str:
    """A server's words for the log, which holds no address: they often repeat it."""
    return re.sub(r"\S+@\S+", "…", _line(fault).replace(letter.to, "…"))


# ---- what a letter says


class Said(Struct, frozen=True):
    """A letter in words."""

    subject: str
    text: str
    html: str


def rendered(letter: Letter) -> Said:
    """The words of a letter. Raises Jinja's TemplateError for a template that is missing or wants what is not given."""
    known = {
        "language": letter.language,
        "unsubscribe": letter.unsubscribe,
        "_": partial(pages.translate, language=letter.language, owner=letter.product),
        **letter.context,
    }
    head, body = _parts(_name(letter.product, letter.template, letter.language))
    subject = _line(head.render(known))
    text = body.render(known).strip() + "\n"
    try:
        html = pages.render(
            _name(letter.product, letter.template, letter.language, "html"), {**known, "subject": subject}
        )
    except jinja2.TemplateNotFound:
        html = ""
    return Said(subject=subject, text=text, html=html)


def _parts(name: str) -> tuple[jinja2.Template, jinja2.Template]:
    """The subject and the body, as templates of their own: no value can move from one to the other.

    Compiling them costs ten times what a letter's words cost otherwise, so they are kept for as long as they read so.
    """
    written, kept = pages.source_of(name), state.part(Compiled).by_text
    if written not in kept:
        environment = pages.environment()
        first, _, rest = written.partition("\n")
        if not first.startswith("Subject:"):
            raise jinja2.TemplateSyntaxError("the first line must be `Subject: …`", 1, name)
        kept[written] = environment.from_string(first.removeprefix("Subject:")), environment.from_string(rest)
    return kept[written]


class Compiled:
    """Letters' templates by the text that they were made from: one that is edited is another."""

    def __init__(self) -> None:
        self.by_text: dict[str, tuple[jinja2.Template, jinja2.Template]] = {}


def _message(letter: Letter, said: Said) -> EmailMessage:
    sender = state.settings().mail_from
    message = EmailMessage(policy=POLICY)
    message["From"] = sender
    message["To"] = Address(addr_spec=letter.to)
    message["Subject"] = said.subject
    message["Date"] = format_datetime(letter.created_at)
    message["Message-ID"] = f"<{letter.id}@{parseaddr(sender)[1].rpartition('@')[2]}>"
    message["Content-Language"] = letter.language
    message["Auto-Submitted"] = "auto-generated"
    if letter.unsubscribe:
        message["List-Unsubscribe"] = f"<{letter.unsubscribe}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(said.text)
    if said.html:
        message.add_alternative(said.html, subtype="html")
    return message


def _client(url: str) -> aiosmtplib.SMTP:
    """Who converses with the mail server of an address such as `smtps://user:password@host:465`."""
    server = urlsplit(url)
    secure = server.scheme == "smtps"
    return aiosmtplib.SMTP(
        hostname=server.hostname or "",
        port=server.port or (465 if secure else 587),
        username=unquote(server.username) if server.username else None,
        password=unquote(server.password) if server.password else None,
        use_tls=secure,
        start_tls=False if secure else None,  # None: whenever the server offers it
        timeout=CONVERSATION,
    )


# ---- the development inbox


@get("/mail", public=True, include_in_schema=False)
async def show_letters(request: AnyRequest) -> Response[Any]:
    """The newest letters, of all or `?to=` one address; as JSON for whom accepts only that."""
    _only_in_development()
    to = request.query_params.get("to")
    found = await letters.many({"to_key": _key_of(to)} if to else {}, sort=[("_id", -1)], limit=200)
    if "application/json" in request.headers.get("accept", ""):
        return Response({"items": [_view(letter) for letter in found]})
    return pages.page("kit/mail.html", request, letters=found)


@get("/mail/{id:str}", public=True, include_in_schema=False)
async def show_letter(request: AnyRequest, id: FromPath[str]) -> Response[Any]:
    """One letter."""
    _only_in_development()
    letter = await letters.get(id)
    if "application/json" in request.headers.get("accept", ""):
        return Response(_view(letter))
    return pages.page("kit/mail_letter.html", request, letter=letter)


@get("/mail/{id:str}/html", public=True, include_in_schema=False)
async def show_letter_html(id: FromPath[str]) -> Response[str]:
    """The HTML of a letter, shut in: it runs nothing and fetches nothing."""
    _only_in_development()
    letter = await letters.get(id)
    headers = {"Content-Security-Policy": SHUT_IN}
    return Response(letter.html, media_type="text/html", headers=headers)


def _only_in_development() -> None:
    if state.settings().production:
        raise NotFound


def _view(letter: Letter) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in SHOWN}


mail_pages: list[ControllerRouterHandler] = [show_letters, show_letter, show_letter_html, pages.static("kit")]
