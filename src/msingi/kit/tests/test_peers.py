"""Questions between products: answered by whoever registered, and refused plainly where nobody did."""

import pytest
from msgspec import Struct

from msingi.kit.peers import NobodyAnswers, Question, answers
from msingi.kit.state import State


class Asked(Struct, frozen=True):
    number: int


DOUBLE: Question[Asked, int] = Question("test.double", Asked, int)


async def test_a_question_is_answered_by_whoever_registered(running: State) -> None:
    with pytest.raises(NobodyAnswers, match=r"test\.double"):
        await DOUBLE.ask(number=4)

    @answers(DOUBLE)
    async def double(asked: Asked) -> int:
        return asked.number * 2

    assert await DOUBLE.ask(number=4) == 8
    with pytest.raises(TypeError):
        await DOUBLE.ask(count=4)
