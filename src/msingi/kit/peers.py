"""How one product asks another: a question stands in the contract of who answers it.

In one process the answer is a function call. Between processes the same call is a request: MSINGI_PEERS says where
which product is, and this process proves itself with a token of its own (kit.service_tokens).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from litestar import Request, Response
from msgspec import Struct

from msingi.kit import fetch, service_tokens, state
from msingi.kit.errors import Busy, Malformed, NotFound, Problem
from msingi.kit.http import Path, post
from msingi.kit.reading import strictly

A = TypeVar("A", bound=Struct)
R = TypeVar("R")
ASKING = "questions:ask"
WITHIN = 3.0  # seconds for an answer from another process
log = structlog.get_logger("peers")


class NobodyAnswers(Problem):
    """The part of the house that knows {question} is not running here."""

    status = 503


class Question(Generic[A, R]):
    """What may be asked of a product: `people_named = Question("accounts.people", PeopleAsked, list[Person])`."""

    def __init__(self, name: str, asked: type[A], answer: Any) -> None:
        self.name, self.asked, self.answer = name, asked, answer

    async def ask(self, **asked: Any) -> R:
        """The answer of the product that registered one, here or at its peer's address. Raises NobodyAnswers."""
        act = _answerers.get(self.name)
        if act is None:
            return await self._ask_peer(self.asked(**asked))
        found: R = await act(self.asked(**asked))
        return found

    async def _ask_peer(self, asked: A) -> R:
        base = peer_of(self.name)
        if not base:
            raise NobodyAnswers(question=self.name)
        try:
            reply = await self._answer_of(base, asked)
            if reply.status == 401:
                service_tokens.forget()  # it was revoked, or the keys have changed: once more with a new one
                reply = await self._answer_of(base, asked)
            if reply.status == 200:
                found: R = msgspec.json.decode(reply.body, type=self.answer)
                return found
            log.error("peer_refused", question=self.name, status=reply.status)
        except (fetch.Unreachable, fetch.ReplyTooLarge, Busy, msgspec.MsgspecError) as fault:
            log.error("peer_not_to_be_had", question=self.name, error=type(fault).__name__)
        raise NobodyAnswers(question=self.name)

    async def _answer_of(self, base: str, asked: A) -> fetch.Reply:
        product = self.name.partition(".")[0]
        headers = {**await service_tokens.authorization(), "content-type": "application/json"}
        url = f"{base}/v1/{product}/questions/{self.name}"
        return await fetch.post(url, content=msgspec.json.encode(asked), headers=headers, within=WITHIN)


def peer_of(name: str) -> str:
    """The address of the process that answers for a product, if MSINGI_PEERS names one (`a=http://…, b=http://…`)."""
    product = name.partition(".")[0]
    listed = (each.partition("=") for each in state.settings().peers.split(","))
    return next((url.strip().rstrip("/") for known, _, url in listed if known.strip() == product), "")


def named() -> list[str]:
    """The products that MSINGI_PEERS names."""
    return [each.partition("=")[0].strip() for each in state.settings().peers.split(",") if "=" in each]


_answerers: dict[str, Callable[[Any], Awaitable[Any]]] = {}
_answered: dict[str, Question[Any, Any]] = {}


def answers(
    question: Question[A, R],
) -> Callable[[Callable[[A], Awaitable[R]]], Callable[[A], Awaitable[R]]]:
    """Let a function answer a question. Importing the product's manifest is to import the function."""

    def register(act: Callable[[A], Awaitable[R]]) -> Callable[[A], Awaitable[R]]:
        _answerers[question.name], _answered[question.name] = act, question
        return act

    return register


@post(
    "/questions/{name:str}",
    permission=ASKING,
    scope=ASKING,
    idempotency="off",
    limit="off",
    status_code=200,
    include_in_schema=False,
)
async def answer_question(name: Path[str], request: Request[Any, Any, Any]) -> Response[bytes]:
    """What another process of the house asks: each product that answers questions has this route."""
    question = _answered.get(name)
    if question is None or name.partition(".")[0] != request.route_handler.opt.get("product"):
        raise NotFound
    try:
        raw = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Malformed(reason="it is no JSON") from fault
    found = await _answerers[name](strictly(question.asked, raw))
    return Response(msgspec.json.encode(found), media_type="application/json")


routes = [answer_question]
