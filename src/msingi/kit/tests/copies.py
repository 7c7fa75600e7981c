"""Processes that begin as copies of one which has loaded what they import: that costs two seconds of CPU each time.

The process that is copied has no threads, connections or files of its own, and is told to make a copy over a socket.
Between it and each copy stands a process which waits for the copy's end, to tell how it ended.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from tempfile import TemporaryFile
from typing import IO, Any

from prometheus_client import values

KIT = ("granian.cli", "uvloop", "msingi.kit.app", "msingi.kit.worker", "msingi.kit.payments.sandbox.app")
BEGIN = "import sys; from msingi.kit.tests import copies; copies.keep(int(sys.argv[1]), sys.argv[2:])"
TOLD = 4  # bytes of a number: of a process, then of its end


class Copy:
    """One that runs: what tests use of a `subprocess.Popen`."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.returncode: int | None = None
        self.pid = _number(line)
        assert self.pid > 0, "no copy was made"

    def poll(self) -> int | None:
        """Its exit code, or None as long as it runs."""
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            self._hear()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"the copy {self.pid}", timeout or 0)
            self._hear()
        assert self.returncode is not None
        return self.returncode

    def _hear(self) -> None:
        self.returncode = _number(self._line)
        self._line.close()

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def copy(
    command: Sequence[str],
    env: Mapping[str, str],
    output: IO[bytes],
    loaded: Sequence[str] = KIT,
    *,
    errors: IO[bytes] | None = None,
    said: IO[bytes] | None = None,
) -> Copy:
    """Run `python -m …` or `python -c …` in a session of its own, as a copy of a process that imported `loaded`."""
    assert command[0] == sys.executable
    assert command[1] in ("-m", "-c")
    here, there = socket.socketpair()
    with there, open(os.devnull, "rb") as nothing:
        files = (there, said or nothing, output, errors or output)
        socket.send_fds(_original(tuple(loaded)), [b"!"], [each.fileno() for each in files])
    here.sendall(json.dumps({"command": list(command[1:]), "env": dict(env)}).encode() + b"\n")
    return Copy(here)


def run(
    command: Sequence[str], env: Mapping[str, str], loaded: Sequence[str] = KIT, said: str = ""
) -> "subprocess.CompletedProcess[str]":
    """The same, until it has ended, within a minute; it is told `said`."""
    with TemporaryFile() as output, TemporaryFile() as errors, TemporaryFile() as given:
        given.write(said.encode())
        given.seek(0)
        running = copy(command, env, output, loaded, errors=errors, said=given)
        try:
            code = running.wait(60)
        finally:
            running.kill()
        return subprocess.CompletedProcess(command, code, *(_text(each) for each in (output, errors)))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@cache
def _original(loaded: tuple[str, ...]) -> socket.socket:
    """The line to a process that has imported these modules; it ends when the line does."""
    here, there = socket.socketpair()
    with there:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", BEGIN, str(there.fileno()), *loaded],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
            start_new_session=True,
        )

    def end() -> None:
        here.close()
        process.wait(10)

    atexit.register(end)
    return here


def _number(line: socket.socket) -> int:
    """What is told next; as if killed, if it was cut off."""
    said = line.recv(TOLD, socket.MSG_WAITALL)
    return int.from_bytes(said, "big", signed=True) if len(said) == TOLD else -signal.SIGKILL


# ---- in the process that is copied


def keep(control: int, loaded: Sequence[str]) -> None:
    """Import, then make copies until nobody asks for any. In each copy it returns when the work is done."""
    for name in loaded:
        import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, _bury)
    with socket.socket(fileno=control) as asking:
        while True:
            said, descriptors, _, _ = socket.recv_fds(asking, 1, 4)
            if not said:
                return
            if os.fork():
                for each in descriptors:
                    os.close(each)
            else:
                break
    line, *files = descriptors
    with socket.socket(fileno=line) as telling:
        asked = json.loads(telling.makefile("rb").readline())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child = os.fork()
        if child:
            _wait_for(child, telling)
    _become(asked["command"], asked["env"], files)


def _bury(*_: object) -> None:
    """Let those go that waited for a copy's end."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for(child: int, telling: socket.socket) -> None:
    telling.sendall(child.to_bytes(TOLD, "big", signed=True))
    _, status = os.waitpid(child, 0)
    telling.sendall(os.waitstatus_to_exitcode(status).to_bytes(TOLD, "big", signed=True))
    os._exit(0)


def _become(command: Sequence[str], env: Mapping[str, str], files: Sequence[int]) -> None:
    """Be a new Python, as far as it shows."""
    os.setsid()
    for number, each in enumerate(files):
        os.dup2(each, number)
        os.close(each)
    os.environ.clear()
    os.environ.update(env)
    known: Any = values
    known.ValueClass = known.get_value_class()  # chosen by the environment
    kind, what, *arguments = command
    sys.argv = [what if kind == "-m" else "-c", *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
