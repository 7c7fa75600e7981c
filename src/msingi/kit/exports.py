"""All that the house has of one person: what each product contributes, asked for here or where the product runs."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from msingi.kit import peers, state
from msingi.kit.peers import Question

Contribute = Callable[[str], Awaitable[Any]]


class OfPerson(Struct, frozen=True):
    """Whose data is asked for."""

    user_id: str


def contributed_by(product: str, contribute: Contribute) -> None:
    """Let a product answer what it has of a person: something that JSON can say."""

    async def answer(asked: OfPerson) -> Any:
        return await contribute(asked.user_id)

    peers.answers(_question(product))(answer)


async def gather(user_id: str) -> dict[str, Any]:
    """What every product of this house has of a person, by the products' names. Raises NobodyAnswers if one is away."""
    here = [each.name for each in state.current().products if getattr(each, "exports", None)]
    elsewhere = [name for name in peers.named() if name not in {each.name for each in state.current().products}]
    return {name: await _question(name).ask(user_id=user_id) for name in sorted({*here, *elsewhere})}


def _question(product: str) -> Question[OfPerson, Any]:
    return Question(f"{product}.person_export", OfPerson, Any)
