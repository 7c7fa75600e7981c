"""Keeping a house alive: its processes are started, started again when they die, and stopped in order."""

import ctypes
import http.client
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from msingi.kit.embedded import CannotStart, Servers

Say = Callable[[str], None]

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0  # seconds before a process is started again, doubled each time
STEADY = 30.0  # seconds after which a process counts as well again
READY_WITHIN = 60.0
STOPPED_WITHIN = 20.0
REMINDED_EVERY = 3.0  # seconds: a process that was just being born may have missed the first SIGTERM
LOG_BYTES = 10 * 2**20
MARK = "MSINGI_SUPERVISOR"
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # as prctl.h has them


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
    aloud: bool = False  # what it says goes where its supervisor's words go; what goes wrong is in its log
    keeps: int = 0  # so many others, which it stops in turn; to be told twice means to it what it means to us: at once
    process: "subprocess.Popen[bytes] | Forked | None" = None
    failures: int = 0
    started: float = 0.0
    due: float | None = None

    def start(self) -> None:
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_BYTES:
                os.replace(self.log, self.log.with_suffix(".log.before"))
        with open(self.log, "ab") as log:
            self.process = self.begun(log)
        self.started, self.due = time.monotonic(), None

    def begun(self, log: IO[bytes]) -> "subprocess.Popen[bytes] | Forked":
        """Its process, which has just begun, and writes to `log`."""
        return subprocess.Popen(  # noqa: S603  (no shell, and no argument from outside)
            list(self.command),
            stdin=subprocess.DEVNULL,
            stdout=None if self.aloud else log,
            stderr=log,
            env=dict(self.environment),
            start_new_session=True,  # Ctrl-C reaches the supervisor only, which stops them in order
        )

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


@dataclass
class Copy(Child):
    """One that begins as a copy of this very process, and shares what that has loaded; it ends with this one."""

    work: Callable[[], object] = lambda: None

    def begun(self, log: IO[bytes]) -> "Forked":
        return Forked(self.work, None if self.aloud else log, f"msingi {self.name.split()[0]}")


class Forked:
    """A copy of this process that does some work and ends: what is used of a `subprocess.Popen`.

    Its parent may have one thread, no connections, and no files that a copy may not write to.
    """

    def __init__(self, work: Callable[[], object], output: IO[bytes] | None, name: str) -> None:
        self.returncode: int | None = None
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                _become(name, output, parent)
                work()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:  # noqa: BLE001  (as Python itself would: what is above is not for this process)
                traceback.print_exc()
            finally:
                for stream in (sys.stdout, sys.stderr):
                    with suppress(OSError, ValueError):
                        stream.flush()
                os._exit(code)

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self._look(os.WNOHANG)
        return self.returncode

    def wait(self) -> int:
        """Wait for its end."""
        if self.returncode is None:
            self._look(0)
        assert self.returncode is not None  # noqa: S101  (it has ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _look(self, how: int) -> None:
        pid, status = os.waitpid(self.pid, how)
        if pid:
            self.returncode = os.waitstatus_to_exitcode(status)


def _become(name: str, output: IO[bytes] | None, parent: int) -> None:
    """Be a process of one's own: in a session of its own, quiet towards the terminal, deaf to no signal."""
    os.setsid()
    end_with_parent(parent)
    if os.getppid() != parent:  # it ended just before
        os._exit(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    if output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    _prctl(PR_SET_NAME, name.encode()[:15])


def end_with_parent(parent: int) -> None:
    """Let the system kill this process when the one that made it ends: it would keep the port from the next."""
    if os.getppid() == parent:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: "int | bytes") -> None:
    """Only Linux has it, and only there are copies made."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


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
            where = "" if child.aloud else f", see {child.log}"
            self.say(f"{child.name} died ({ending}); starting it again in {wait:g} s{where}")
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
        patience = STOPPED_WITHIN * max(1, child.keeps) + child.keeps  # a second for each to be killed
        while not child.ending() and time.monotonic() - began < patience and self.asked.times < 2:
            if not child.keeps and time.monotonic() - reminded > REMINDED_EVERY:
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
