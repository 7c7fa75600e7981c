"""Streams of Server-Sent Events, as somebody hears them who follows a topic."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from msingi.checks.harness import Caller, Failed

PATIENCE = 10  # seconds
Event = dict[str, str]


class Listener:
    """Reads a stream in the background."""

    def __init__(self, caller: Caller, path: str, last: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.events: list[Event] = []
        self.ready = threading.Event()
        self.failure = ""
        self._enough = threading.Event()
        asked = {**caller.authorization(), "Accept": "text/event-stream", **(headers or {})}
        if last:
            asked["Last-Event-ID"] = last
        self._thread = threading.Thread(target=self._read, args=(caller.base + path, asked), daemon=True)
        self._thread.start()

    def __enter__(self) -> "Listener":
        if not self.ready.wait(PATIENCE):
            raise Failed(
                f"GET {self.path}",
                self.failure or f"nothing within {PATIENCE} seconds",
                "something at once, a comment line will do, when listening has begun",
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._enough.set()

    def wait_for(self, fits: Callable[[Event], bool], should: str) -> Event:
        """The first event that fits; `should` says in words which."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for event in list(self.events):
                if fits(event):
                    return event
            time.sleep(0.05)
        seen = f"{self.events[-3:] or 'no events'} within {PATIENCE} seconds"
        raise Failed(f"GET {self.path}", self.failure or seen, should)

    def _read(self, url: str, headers: dict[str, str]) -> None:
        try:
            with httpx.stream("GET", url, headers=headers, timeout=httpx.Timeout(10.0, read=20.0)) as reply:
                if reply.status_code != 200 or "text/event-stream" not in reply.headers.get("content-type", ""):
                    self.failure = f"{reply.status_code} {reply.headers.get('content-type', '')}"
                    return
                self._follow(reply)
        except httpx.HTTPError as error:
            self.failure = type(error).__name__

    def _follow(self, reply: httpx.Response) -> None:
        event: Event = {}
        for line in reply.iter_lines():
            self.ready.set()
            if self._enough.is_set():
                return
            name, _, value = line.partition(":")
            if line == "" and event:
                self.events.append(event)
                event = {}
            elif name:
                event[name] = value.removeprefix(" ")


def said(event: Event) -> dict[str, Any]:
    """What a message says: `{"kind", "data", …}`; nothing, if it cannot be read."""
    try:
        found = json.loads(event.get("data", ""))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def inner(event: Event) -> dict[str, Any]:
    """The data of a message."""
    found = said(event).get("data")
    return found if isinstance(found, dict) else {}
