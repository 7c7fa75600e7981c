"""Providers that do as a script says: for tests of what happens when they are late, silent, or wrong.

`Bank` is one in this process: it keeps its own books, so that a test can compare them with ours. `scripted_http` is a
server that answers real HTTP badly, for tests of adapters.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Any, Literal, TypeVar

import msgspec

from msingi.kit.payments.face import Asked, BadCallback, Begun, Fact, Refunding, Refused, Unknown

T = TypeVar("T")
How = Literal[
    "well",
    "unheard",  # the question never arrives: nothing happens, and nobody knows
    "lost",  # it is done, and the reply is lost
    "refused",
    "broken",  # it raises what no adapter should
]
SECRET = "a secret that the bank knows"  # noqa: S105


@dataclass
class Account:
    """What the bank knows of one payment."""

    asked: Asked
    reference: str
    state: Literal["pending", "authorised", "captured", "failed", "voided"] = "pending"
    captured: int = 0
    refunds: dict[str, int] = field(default_factory=dict)


class Bank:
    """A provider that keeps books. Asked twice under one id, it does it once.

    `script` says how it answers its next calls, by method: `bank.script["begin"].extend(["lost", "well"])`; what is not
    scripted goes well. `calls` are all questions that it was asked, with what they were about.
    """

    def __init__(self, name: str = "bank", *, pays: bool = False, told: bool = True) -> None:
        """`pays`: whoever is asked pays at once. `told`: its replies say what happened, not only that it took it."""
        self.name, self.pays, self.told = name, pays, told
        self.accounts: dict[str, Account] = {}  # by our id
        self.script: dict[str, deque[How]] = {each: deque() for each in ("begin", "ask", "find", "capture", "void")}
        self.script["refund"] = deque()
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str], None] = lambda call: None  # for tests that cut in

    # ---- its face

    def takes(self, amount: int, currency: str) -> bool:
        return amount > 0 and len(currency) == 3

    async def begin(self, asked: Asked) -> Begun:
        return await self._do("begin", asked.id, lambda: self._begin(asked))

    async def ask(self, reference: str) -> Sequence[Fact]:
        return await self._do("ask", reference, lambda: self.facts(reference))

    async def find(self, id: str) -> str | None:
        return await self._do("find", id, lambda: self.accounts[id].reference if id in self.accounts else None)

    async def capture(self, reference: str, amount: int, currency: str) -> Sequence[Fact]:
        return await self._do("capture", reference, lambda: self._capture(reference, amount))

    async def void(self, reference: str) -> Sequence[Fact]:
        return await self._do("void", reference, lambda: self._void(reference))

    async def refund(self, refunding: Refunding) -> Sequence[Fact]:
        return await self._do("refund", refunding.id, lambda: self._refund(refunding))

    def hear(self, headers: Mapping[str, str], body: bytes, secret: str) -> Sequence[Fact]:
        if not compare_digest(secret, SECRET):
            raise BadCallback(reason="it is not from the bank")
        try:
            return msgspec.json.decode(body, type=list[Fact])
        except msgspec.MsgspecError:
            raise BadCallback(reason="it cannot be read") from None

    # ---- what its customers do

    def pay(self, id: str, amount: int | None = None) -> list[Fact]:
        """The payer of our payment pays (or allows it to be captured); returns the facts that a callback would say."""
        account = self.accounts[id]
        if account.asked.capture:
            account.state, account.captured = "captured", amount or account.asked.amount
        else:
            account.state = "authorised"
        return self.facts(account.reference)

    def fail(self, id: str) -> list[Fact]:
        """The payer declines."""
        self.accounts[id].state = "failed"
        return self.facts(self.accounts[id].reference)

    @staticmethod
    def callback(facts: Sequence[Fact]) -> tuple[dict[str, str], bytes, str]:
        """What it sends to say these facts: headers, body and secret, as `Till.hear` takes them."""
        return {"content-type": "application/json"}, msgspec.json.encode(list(facts)), SECRET

    # ---- its books

    @property
    def charged(self) -> int:
        """All money that it took from payers."""
        return sum(each.captured for each in self.accounts.values())

    @property
    def returned(self) -> int:
        """All money that it gave back."""
        return sum(sum(each.refunds.values()) for each in self.accounts.values())

    def facts(self, reference: str) -> list[Fact]:
        """All that it knows of a payment, under ids that are the same each time."""
        account = self._account(reference)
        told = {"pending": ["pending"], "failed": ["pending", "failed"]}
        steps = [] if account.asked.capture else ["authorised"]
        if account.state in ("captured", "voided"):
            steps.append(account.state)
        amounts = {"authorised": account.asked.amount, "captured": account.captured}
        facts = [
            self._fact(account, kind, f"{reference}.{kind}", amounts.get(kind, 0))
            for kind in told.get(account.state, ["pending", *steps])
        ]
        for id, amount in account.refunds.items():
            facts.append(self._fact(account, "refunded", f"{id}.refunded", amount, refund=id))
        return facts

    def _fact(self, account: Account, kind: Any, id: str, amount: int, **more: Any) -> Fact:
        receipt = f"R-{account.reference}" if kind == "captured" else ""
        code = "declined" if kind == "failed" else ""
        currency = account.asked.currency if amount else ""
        return Fact(
            id=id,
            reference=account.reference,
            kind=kind,
            amount=amount,
            currency=currency,
            receipt=receipt,
            code=code,
            **more,
        )

    def _account(self, reference: str) -> Account:
        found = next((each for each in self.accounts.values() if each.reference == reference), None)
        if found is None:
            raise Refused(reason="no such payment")
        return found

    async def _do(self, call: str, about: str, act: Callable[[], T]) -> T:
        self.calls.append((call, about))
        how = self.script[call].popleft() if self.script[call] else "well"
        self.before(call)
        await asyncio.sleep(0)
        if how == "unheard":
            raise Unknown(f"{call}: no answer")
        if how == "refused":
            raise Refused(reason="the bank says no", why="no")
        if how == "broken":
            raise KeyError("what the bank always sends")
        done = act()
        if how == "lost":
            raise Unknown(f"{call}: the answer was cut off")
        return done

    def _begin(self, asked: Asked) -> Begun:
        if asked.id not in self.accounts:
            self.accounts[asked.id] = Account(asked, reference=f"ref-{asked.id}")
            if self.pays:
                self.pay(asked.id)
        account = self.accounts[asked.id]
        facts = self.facts(account.reference) if self.told else []
        return Begun(reference=account.reference, action={"kind": "prompt"}, facts=facts)

    def _capture(self, reference: str, amount: int) -> list[Fact]:
        account = self._account(reference)
        if account.state == "authorised":
            account.state, account.captured = "captured", amount
        elif account.captured != amount:
            raise Refused(reason=f"it is {account.state}")
        return self.facts(reference) if self.told else []

    def _void(self, reference: str) -> list[Fact]:
        account = self._account(reference)
        if account.state not in ("pending", "authorised", "voided"):
            raise Refused(reason=f"it is {account.state}")
        account.state = "voided"
        return self.facts(reference) if self.told else []

    def _refund(self, refunding: Refunding) -> list[Fact]:
        account = self._account(refunding.reference)
        if refunding.id not in account.refunds:
            if sum(account.refunds.values()) + refunding.amount > account.captured:
                raise Refused(reason="more than was captured")
            account.refunds[refunding.id] = refunding.amount
        return self.facts(account.reference) if self.told else []


# ---- over HTTP


@dataclass(frozen=True)
class Answer:
    """What the server does with a request: `status` and `json`, `late` by so many seconds, or the line is `cut`."""

    status: int = 200
    json: Any = None
    late: float = 0.0
    cut: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class ScriptedServer:
    """Answers requests as `script` says, one after the other, and then as `otherwise` does."""

    def __init__(self, otherwise: Callable[[Received], Answer]) -> None:
        self.script: deque[Answer] = deque()
        self.otherwise = otherwise
        self.received: list[Received] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            request = await _read(reader)
            self.received.append(request)
            answer = self.script.popleft() if self.script else self.otherwise(request)
            await asyncio.sleep(answer.late)
            if not answer.cut:
                writer.write(_written(answer))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # they did not wait
        finally:
            writer.close()


@asynccontextmanager
async def scripted_http(
    otherwise: Callable[[Received], Answer] = lambda request: Answer(),
) -> AsyncIterator[ScriptedServer]:
    """A server on a free port of this machine, for as long as the block lasts."""
    scripted = ScriptedServer(otherwise)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        server.close()
        await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    body = await reader.readexactly(int(headers.get("content-length") or 0))
    return Received(method, path, headers, body)


def _written(answer: Answer) -> bytes:
    body = b"" if answer.json is None else msgspec.json.encode(answer.json)
    headers = {"content-type": "application/json", **answer.headers, "content-length": len(body), "connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} As-the-script-says", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
