"""Keeping a house alive: its processes are started, started again when they die, and stopped in order."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from msingi.kit.embedded import CannotStart, Servers

Say = Callable[[str], None]

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0  # seconds before a process is started again, doubled each time
STEADY = 30.0  # seconds after which a process counts as well again
READY_WITHIN = 60.0
STOPPED_WITHIN = 20.0
REMINDED_EVERY = 3.0  # seconds: a process that was just being born may have missed the first SIGTERM
LOG_BYTES = 10 * 2**20
MARK = "MSINGI_SUPERVISOR"


class Stopped(Exception):
    """Somebody asked for the end while things were still being started."""


class Asked:
    """Whether SIGINT, SIGTERM or SIGHUP has come; the second one means: at once."""

    def __init__(self) -> None:
        self.times = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.times += 1

    def check(self) -> None:
        """Raise Stopped if it has come."""
        if self.times:
            raise Stopped


@dataclass
class Child:
    """A process of the house, in a process group of its own."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    failures: int = 0
    started: float = 0.0
    due: float | None = None

    def start(self) -> None:
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_BYTES:
                os.replace(self.log, self.log.with_suffix(".log.before"))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  (no shell, and no argument from outside)
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environment),
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which stops them in order
            )
        self.started, self.due = time.monotonic(), None

    def ending(self) -> str | None:
        """How it ended; None while it runs."""
        code = self.process.poll() if self.process else None
        if code is None:
            return None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        if self.process:
            self.process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to the process and to all that it started, also after its own death."""
        with suppress(ProcessLookupError):
            if self.process:
                os.killpg(self.process.pid, number)


class Supervisor:
    """The processes of a house and, if they are ours, its databases."""

    def __init__(self, say: Say, asked: Asked) -> None:
        self.say = say
        self.asked = asked
        self.children: list[Child] = []
        self.servers: Servers | None = None
        self.servers_due = 0.0

    def start(self, child: Child) -> None:
        """Start a process; from now on it is kept alive."""
        self.children.append(child)
        child.start()

    def wait_ready(self, host: str, port: int) -> None:
        """Return when `/ready` answers 200. Raises CannotStart if a process dies instead, or it takes too long."""
        end = time.monotonic() + READY_WITHIN
        while not answers(host, port):
            self.asked.check()
            for child in self.children:
                if child.ending():
                    raise CannotStart(f"The {child.name} ended at once ({child.ending()}).\n{last_lines(child.log)}")
            if time.monotonic() > end:
                raise CannotStart(
                    f"The web server was not ready within {READY_WITHIN:.0f} s; see {self.children[0].log}."
                )
            time.sleep(0.1)

    def keep(self) -> None:
        """Start again what dies, until somebody asks for the end."""
        while not self.asked.times:
            self._tend_servers()
            for child in self.children:
                self._tend(child)
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the processes in the order of their start, then the databases. A second signal cuts it short."""
        for child in self.children:
            self._stop(child)
        if self.servers:
            self.say("stopping the databases")
            self.servers.release()

    def _tend_servers(self) -> None:
        if self.servers is None or time.monotonic() < self.servers_due:
            return
        dead = self.servers.dead()
        if not dead:
            return
        self.say(f"{' and '.join(dead)} died; starting again")
        try:
            self.servers.revive()
        except CannotStart as reason:
            self.servers_due = time.monotonic() + LONGEST_WAIT
            self.say(f"{reason} Trying again in {LONGEST_WAIT:.0f} s.")

    def _tend(self, child: Child) -> None:
        ending, now = child.ending(), time.monotonic()
        if ending is None:
            return
        if child.due is None:
            child.signal_all(signal.SIGKILL)  # what it leaves behind would keep its port
            child.failures = 0 if now - child.started > STEADY else child.failures + 1
            wait = min(FIRST_WAIT * 2 ** max(0, child.failures - 1), LONGEST_WAIT)
            child.due = now + wait
            self.say(f"{child.name} died ({ending}); starting it again in {wait:g} s, see {child.log}")
        elif now >= child.due:
            child.start()
            self.say(f"{child.name} started again")

    def _stop(self, child: Child) -> None:
        if child.process is None or child.ending():
            child.signal_all(signal.SIGKILL)
            return
        self.say(f"stopping the {child.name}")
        child.signal(signal.SIGTERM)
        began = reminded = time.monotonic()
        while not child.ending() and time.monotonic() - began < STOPPED_WITHIN and self.asked.times < 2:
            if time.monotonic() - reminded > REMINDED_EVERY:
                child.signal_all(signal.SIGTERM)
                reminded = time.monotonic()
            time.sleep(0.05)
        child.signal_all(signal.SIGKILL)
        child.process.wait()


def run_once(child: Child, asked: Asked) -> None:
    """Run a process to its end. Raises CannotStart with its last lines if it fails, Stopped if somebody asked."""
    child.log.unlink(missing_ok=True)
    child.start()
    while not child.ending():
        if asked.times:
            child.signal_all(signal.SIGKILL)
            asked.check()
        time.sleep(0.05)
    if child.ending() != "exit code 0":
        raise CannotStart(f"The {child.name} failed ({child.ending()}).\n{last_lines(child.log)}")


def answers(host: str, port: int) -> bool:
    """Whether the web server says that it is ready."""
    connection = http.client.HTTPConnection(reachable(host), port, timeout=5)
    try:
        connection.request("GET", "/ready", headers={"Host": f"localhost:{port}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def reachable(host: str) -> str:
    """Where one who listens at `host` is found from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared with, not bound to)


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log, for people."""
    with suppress(FileNotFoundError):
        lines = log.read_text(errors="replace").splitlines()[-count:]
        return "\n".join(f"    {line}" for line in lines)
    return ""


def mark(folder: Path) -> str:
    """What the processes of this supervisor carry in their environment."""
    return f"{os.getpid()}:{folder}"


def end_leftovers(folder: Path) -> int:
    """End what an earlier supervisor of this folder left behind when it was killed; returns how many there were.

    Looks where Linux shows each process's environment; elsewhere there is nothing to find. It looks again until there
    are none: a server whose worker dies before it does may have started another meanwhile.
    """
    ended: set[int] = set()
    end = time.monotonic() + 5
    while found := [pid for pid in _own_processes() if _is_left_over(pid, folder) and not _is_gone(pid)]:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended.update(found)
        while not all(map(_is_gone, found)) and time.monotonic() < end:
            time.sleep(0.02)
        if time.monotonic() >= end:
            break
    return len(ended)


def _is_gone(pid: int) -> bool:
    """Whether it holds no port any more: a zombie does not, one that is dying still may."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _own_processes() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()] if proc.is_dir() else []


def _is_left_over(pid: int, folder: Path) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # somebody else's, or gone
        return False
    for entry in environment:
        name, _, value = entry.decode(errors="replace").partition("=")
        supervisor, _, place = value.partition(":")
        if name == MARK and place == str(folder):
            return not Path(f"/proc/{supervisor}").exists()
    return False
