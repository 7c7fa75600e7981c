"""How one product asks another: a question stands in the contract of who answers it.

In one process the answer is a function call. The question knows names and types only, so that between processes the
same call can become a request.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from msgspec import Struct

from msingi.kit.errors import Problem

A = TypeVar("A", bound=Struct)
R = TypeVar("R")


class NobodyAnswers(Problem):
    """The part of the house that knows {question} is not running here."""

    status = 503


class Question(Generic[A, R]):
    """What may be asked of a product: `people_named = Question("accounts.people", PeopleAsked, list[Person])`."""

    def __init__(self, name: str, asked: type[A], answer: Any) -> None:
        self.name, self.asked, self.answer = name, asked, answer

    async def ask(self, **asked: Any) -> R:
        """The answer of the product that registered one. Raises NobodyAnswers if none did."""
        act = _answerers.get(self.name)
        if act is None:
            raise NobodyAnswers(question=self.name)
        found: R = await act(self.asked(**asked))
        return found


_answerers: dict[str, Callable[[Any], Awaitable[Any]]] = {}


def answers(
    question: Question[A, R],
) -> Callable[[Callable[[A], Awaitable[R]]], Callable[[A], Awaitable[R]]]:
    """Let a function answer a question. Importing the product's manifest is to import the function."""

    def register(act: Callable[[A], Awaitable[R]]) -> Callable[[A], Awaitable[R]]:
        _answerers[question.name] = act
        return act

    return register
