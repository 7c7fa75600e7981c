"""One websocket of Socket.IO, its other side played by hand: order, slowness, signs of life, and every way to end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from msingi.kit.live import wire as wires
from msingi.kit.live.wire import Wire, frame_of


class Line:
    """The server's side of a websocket. While it is `held`, sends begin and are not done until they are `let` through.

    As Granian does, it begins a send when asked and answers with a future; or, as others do, with a coroutine.
    """

    def __init__(self, style: str = "future") -> None:
        self.style = style
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[str] = []
        self.stuck: list[asyncio.Future[None]] = []
        self.held = False
        self.wire = Wire(self.inbox.get, self.send)  # type: ignore[arg-type]
        self.heard: list[str] = []
        self.goes_on = True

    def send(self, event: dict[str, Any]) -> Any:
        if self.style == "gone":
            raise RuntimeError
        self.sent.append(event.get("text", event["type"]))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.held:
            self.stuck.append(done)
        else:
            done.set_result(None)
        return done if self.style == "future" else driven(done)

    async def hear(self, packet: str) -> bool:
        self.heard.append(packet)
        return self.goes_on

    def come(self, text: str | None, **more: Any) -> None:
        self.inbox.put_nowait({"type": "websocket.receive", "text": text, **more})

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def let(self) -> None:
        """Let the oldest send that is under way be done."""
        self.stuck.pop(0).set_result(None)
        await settled()

    def said(self) -> list[str]:
        """What came after the opening."""
        return self.sent[2:]


async def driven(done: "asyncio.Future[None]") -> None:
    await done


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def until(true: Callable[[], Any], within: float = 5) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(line: Line) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(line.wire.run(line.hear))
    await until(lambda: len(line.sent) == 2)
    await settled()
    assert line.sent[0] == "websocket.accept"
    assert line.sent[1].startswith('0{"sid":"')
    yield task
    line.leave()
    await asyncio.wait_for(task, 5)


def say(line: Line, *words: str) -> None:
    for word in words:
        line.wire.say(frame_of(word))


@pytest.mark.parametrize("style", ["future", "coroutine"])
async def test_what_is_said_goes_out_in_order_one_send_at_a_time(style: str) -> None:
    line = Line(style)
    async with running(line):
        say(line, "a")
        await settled()
        assert line.said() == ["4a"]
        line.held = True
        say(line, "b", "c", "d")
        await settled()
        assert (line.said(), line.wire.behind) == (["4a", "4b"], 2)
        await line.let()
        assert line.said() == ["4a", "4b", "4c"]
        say(line, "e")
        await line.let()
        await line.let()
        assert (line.said(), line.wire.behind) == (["4a", "4b", "4c", "4d", "4e"], 0)
        await line.let()
        line.held = False
        say(line, "f")
        await settled()
        assert line.said()[-1] == "4f"
        assert line.stuck == []


@pytest.mark.parametrize("style", ["future", "coroutine"])
async def test_what_waits_can_be_forgotten_and_what_is_said_then_goes_out(style: str) -> None:
    line = Line(style)
    async with running(line):
        line.held = True
        say(line, "a", "b", "c")
        line.wire.forget()
        say(line, "d", "e")
        assert line.wire.behind == 2
        for said in (["4a", "4d"], ["4a", "4d", "4e"]):
            await line.let()
            assert line.said() == said
        await line.let()
        assert line.stuck == []


async def test_a_send_that_fails_ends_nothing_by_itself_and_is_not_followed_by_a_second_at_the_same_time() -> None:
    line = Line()
    async with running(line) as task:
        line.held = True
        say(line, "a", "b")
        line.stuck.pop(0).set_exception(RuntimeError("closed"))
        await settled()
        assert line.said() == ["4a", "4b"]
        assert not task.done()
        await line.let()


async def test_a_server_that_says_at_once_that_the_connection_is_gone_ends_it_and_troubles_nobody() -> None:
    line = Line()
    async with running(line) as task:
        line.style = "gone"
        say(line, "a", "b")
        await asyncio.wait_for(task, 5)
        assert line.said() == []


async def test_who_is_told_to_go_hears_the_last_words_and_is_closed_then() -> None:
    line = Line()
    async with running(line) as task:
        say(line, "1")
        line.wire.end(0.05)
        line.wire.end(60)  # it has begun
        await asyncio.wait_for(task, 5)
        assert line.said() == ["41", "websocket.close"]
        say(line, "late")
        assert line.said()[-1] == "websocket.close"


async def test_who_closes_by_itself_is_not_closed_again() -> None:
    line = Line()
    async with running(line) as task:
        line.wire.end(60)
        line.leave()
        await asyncio.wait_for(task, 5)
    assert line.said() == []


async def test_a_send_that_stands_still_is_given_up_when_the_wire_is_cut() -> None:
    line = Line()
    async with running(line) as task:
        line.held = True
        say(line, "a", "b")
        under_way = line.stuck[0]
        line.held = False
        line.wire.cut()
        await asyncio.wait_for(task, 5)
        assert under_way.cancelled()
        assert line.said() == ["4a", "websocket.close"]


async def test_a_close_that_stands_still_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "CLOSING", 0.05)
    line = Line()
    async with running(line) as task:
        line.held = True
        line.wire.cut()
        await asyncio.wait_for(task, 5)
        assert line.stuck[0].cancelled()


async def test_an_event_that_is_under_way_does_not_hold_up_the_cut() -> None:
    line, begun = Line(), asyncio.Event()

    async def hear(packet: str) -> bool:
        begun.set()
        await asyncio.Event().wait()
        return True

    task = asyncio.create_task(line.wire.run(hear))
    line.come("4x")
    await asyncio.wait_for(begun.wait(), 5)
    line.wire.cut()
    await asyncio.wait_for(task, 5)
    assert line.said() == ["websocket.close"]


async def test_somebody_elses_cancelling_is_not_taken_for_ones_own() -> None:
    line = Line()
    task = asyncio.create_task(line.wire.run(line.hear))
    await until(lambda: len(line.sent) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert line.wire.over


async def test_who_answers_no_ping_is_let_go_and_who_does_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "PING_EVERY", 0.05)
    dead, alive = Line(), Line()
    async with running(dead) as gone, running(alive) as stays:
        for count in range(1, 5):
            await until(partial(pinged, alive, count))
            alive.come("3")
        assert gone.done()
        assert not stays.done()
        assert dead.said() == ["2", "websocket.close"]


def pinged(line: Line, times: int) -> bool:
    return line.said().count("2") >= times


@pytest.mark.parametrize("text", ["", "1", "7", "x", "b64", "4" + "x" * wires.LARGEST, None])
async def test_g2_what_is_no_packet_ends_the_connection(text: str | None) -> None:
    line = Line()
    async with running(line) as task:
        line.come(text, bytes=None if text is not None else b"4x")
        await asyncio.wait_for(task, 5)
        assert line.heard == []
        assert line.said() == ["websocket.close"]


async def test_what_other_clients_say_beside_is_passed_over_and_the_largest_message_is_taken() -> None:
    line, largest = Line(), "x" * (wires.LARGEST - 1)
    async with running(line) as task:
        for text in ("2probe", "5", "6", "3", f"4{largest}"):
            line.come(text)
        await until(lambda: line.heard)
        assert line.heard == [largest]
        assert line.said() == []
        line.goes_on = False
        line.come("41")
        await asyncio.wait_for(task, 5)
        assert line.said() == ["websocket.close"]
