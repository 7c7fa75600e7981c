"""Letters as they arrive: an SMTP receiver that the checked server is told to use, and the links in what came."""

import re
import socket
import socketserver
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

FIRST = 70.0  # seconds for the first letter: a server that found nobody here before looks again only now and then
LATER = 20.0  # and for each after it
LINK = re.compile(r"https?://[^\s<>\"']+")


class PortTaken(Exception):
    """Nothing can be received on this port."""


class NoLetter(Exception):
    """It did not come in time."""


@dataclass(frozen=True)
class Letter:
    """One letter: to whom, and all that it says."""

    to: str
    text: str

    def links(self, path: str) -> list[str]:
        """Its links to pages of this path."""
        return [link for link in LINK.findall(self.text) if urlsplit(link).path == path]

    def tickets(self, path: str) -> list[str]:
        """What stands as `ticket` in its links to this path, each once."""
        found = [
            parse_qs(urlsplit(link.replace("&amp;", "&")).query).get("ticket", [""])[0] for link in self.links(path)
        ]
        return list(dict.fromkeys(ticket for ticket in found if ticket))


class Letters:
    """An SMTP receiver on `port`, from `with` to the end of it, and what it was brought."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.came: list[Letter] = []
        self._news = threading.Condition()
        self._given_up = False
        self._open = ExitStack()

    def __enter__(self) -> "Letters":
        """Listen. Raises PortTaken."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                server = _Server(family, (host, self.port), self)
            except OSError as error:
                if family == socket.AF_INET6:  # there is none here
                    continue
                raise PortTaken(f"{host} port {self.port}: {error.strerror}") from None
            self._open.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self._open.callback(server.shutdown)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def take(self, letter: Letter) -> None:
        """A letter has come."""
        with self._news:
            self.came.append(letter)
            self._news.notify_all()

    def with_link(self, to: str, path: str, count: int = 1) -> Letter:
        """The newest of at least so many letters to somebody that have a link to this path. Raises NoLetter."""
        deadline = time.monotonic() + (LATER if self.came else 1.0 if self._given_up else FIRST)
        with self._news:
            while len(found := [each for each in self.came if each.to == to and each.tickets(path)]) < count:
                if not self._news.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    self._given_up = not self.came
                    raise NoLetter(f"{len(found)} letters to {to} with a link to {path}, {len(self.came)} in all")
        return found[-1]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, family: int, address: tuple[str, int], letters: Letters) -> None:
        self.address_family, self.letters = family, letters
        super().__init__(address, _Conversation)


class _Conversation(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as it takes to be handed letters."""

    def handle(self) -> None:
        self._say("220 msingi-check ready")
        to: list[str] = []
        while line := self.rfile.readline(4096):
            said = line.decode("utf-8", "replace").strip()
            verb = said.partition(" ")[0].upper()
            if verb == "QUIT":
                self._say("221 bye")
                return
            if verb == "RCPT":
                to.append(re.sub(r"^[^<]*<?([^>\s]*)>?.*$", r"\1", said.partition(":")[2]).lower())
            if verb == "RSET":
                to = []
            if verb == "DATA":
                self._say("354 go on, end with a dot")
                self._deliver(to, self._until_the_dot())
                to = []
            known = verb in ("EHLO", "HELO", "MAIL", "RCPT", "RSET", "NOOP", "DATA")
            self._say("250 good" if known else "502 not known here")

    def _until_the_dot(self) -> bytes:
        lines: list[bytes] = []
        while (line := self.rfile.readline()) and line.rstrip(b"\r\n") != b".":
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)

    def _deliver(self, to: list[str], content: bytes) -> None:
        message = cast(EmailMessage, message_from_bytes(content, policy=cast(Any, default)))
        texts = [part.get_content() for part in message.walk() if part.get_content_maintype() == "text"]
        for each in to:
            cast(_Server, self.server).letters.take(Letter(each, "\n".join(map(str, texts))))

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")
