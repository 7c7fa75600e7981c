"""The embedded databases, with real processes that are shared, killed and starved."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pymongo import MongoClient

from msingi.kit import embedded
from msingi.kit.embedded import CannotStart, Servers

# A user in a process of its own: says what it runs on, leaves when its input ends.
USER = """
import json, sys
from pathlib import Path
from msingi.kit import embedded
try:
    with embedded.start(Path(sys.argv[1])) as servers:
        print(json.dumps({"pids": servers.pids, "mongo": servers.mongo_url, "redis": servers.redis_url}), flush=True)
        sys.stdin.read()
except embedded.CannotStart as reason:
    sys.exit(str(reason))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    for kind in embedded.KINDS:  # those that a failed test leaves behind
        if (tmp_path / "data").is_dir() and embedded._alive(tmp_path / "data", kind):
            os.kill(embedded._known(tmp_path / "data", kind)["pid"], signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # empty for one that is dead but not fetched yet
    except FileNotFoundError:
        return False


def mongo_of(servers: Servers) -> MongoClient[dict[str, Any]]:
    return MongoClient(servers.mongo_url, serverSelectionTimeoutMS=10_000)


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def user_of(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def told(user: "subprocess.Popen[str]") -> dict[str, Any]:
    assert user.stdout
    heard: dict[str, Any] = json.loads(user.stdout.readline())
    return heard


def in_own_mounts(mounts: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """One user from start to end where these mounts hold; they are gone with it."""
    script = f'{mounts} && exec "$0" -c "$1" "$2"'
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-ec", script, sys.executable, USER, str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


# ---- starting, sharing, stopping


def test_a_second_start_finds_the_data_on_the_same_ports(folder: Path) -> None:
    with embedded.start(folder) as first:
        before = (first.mongo_url, first.redis_url)
        with mongo_of(first) as client, redis.Redis.from_url(first.redis_url) as quick:
            client["t"]["notes"].insert_one({"_id": 1, "title": "Milk"})
            quick.set("a", "b")
        pids = first.pids
    assert not any(map(is_alive, pids.values()))
    with embedded.start(folder) as second:
        assert (second.mongo_url, second.redis_url) == before
        with mongo_of(second) as client, redis.Redis.from_url(second.redis_url) as quick:
            assert client["t"]["notes"].find_one() == {"_id": 1, "title": "Milk"}
            assert quick.get("a") == b"b"


def test_the_servers_listen_on_the_loopback_only_and_hold_what_they_are_given(folder: Path) -> None:
    with embedded.start(folder, extra_mongod=["--setParameter", "ttlMonitorSleepSecs=1"]) as servers:
        with redis.Redis.from_url(servers.redis_url, decode_responses=True) as quick:
            kept: Any = quick.config_get("*")
            assert kept["appendonly"] == "yes"
            assert kept["appendfsync"] == "everysec"
            assert kept["maxmemory-policy"] == "noeviction"
            assert kept["bind"] == "127.0.0.1"
        with mongo_of(servers) as client:
            options = client.admin.command("getCmdLineOpts")["parsed"]
            assert options["net"]["bindIp"] == "127.0.0.1"
            assert options["net"]["compression"]["compressors"] == "snappy,zstd"
            assert client.admin.command("getParameter", ttlMonitorSleepSecs=1)["ttlMonitorSleepSecs"] == 1
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 40 * 2**20


def test_one_of_the_two_can_be_left_out(folder: Path) -> None:
    with embedded.start(folder, only=["redis"]) as servers:
        assert list(servers.pids) == ["redis"]
        assert not (folder / "mongo").exists()


def test_three_starters_at_once_share_one_pair_and_the_last_one_stops_it(folder: Path) -> None:
    users = [user_of(folder) for _ in range(3)]
    heard = [told(user) for user in users]
    assert heard[0] == heard[1] == heard[2]
    for leaving in (0, 1):
        users[leaving].communicate()
        assert all(map(is_alive, heard[0]["pids"].values()))
    users[2].communicate()
    assert not any(map(is_alive, heard[0]["pids"].values()))


def test_the_servers_of_a_killed_user_are_adopted(folder: Path) -> None:
    user = user_of(folder)
    before = told(user)["pids"]
    user.kill()
    user.communicate()
    with embedded.start(folder) as servers:
        assert servers.pids == before
    assert not any(map(is_alive, before.values()))


# ---- death and recovery


def test_killed_servers_come_back_on_their_ports_with_all_that_was_acknowledged(folder: Path) -> None:
    with embedded.start(folder) as servers:
        before, urls = servers.pids, (servers.mongo_url, servers.redis_url)
        with mongo_of(servers) as client:
            client["t"].get_collection("c").insert_many([{"_id": number} for number in range(100)])
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
            until(lambda: servers.dead() == ["MongoDB", "Redis"])
            servers.revive()
            assert servers.dead() == []
            assert (servers.mongo_url, servers.redis_url) == urls
            assert set(servers.pids.values()).isdisjoint(before.values())
            assert client["t"]["c"].count_documents({}) == 100  # the same client, without being told


def test_a_port_taken_meanwhile_is_replaced_and_the_data_kept(folder: Path) -> None:
    with embedded.start(folder) as first, mongo_of(first) as client:
        client["t"]["c"].insert_one({"_id": 1})
        port = int(first.mongo_url.split(":")[2].split("/")[0])
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", port))
        reads_and_writes_elsewhere(folder, port)


def reads_and_writes_elsewhere(folder: Path, port: int) -> None:
    with embedded.start(folder) as second:
        assert f":{port}/" not in second.mongo_url
        with mongo_of(second) as client:
            assert client["t"]["c"].find_one() == {"_id": 1}
            client["t"]["c"].insert_one({"_id": 2})


def test_a_spoilt_note_of_the_ports_is_no_hindrance(folder: Path) -> None:
    with embedded.start(folder, only=["redis"]):
        pass
    (folder / "redis.json").write_text("{")
    with embedded.start(folder, only=["redis"]) as servers, redis.Redis.from_url(servers.redis_url) as quick:
        assert quick.ping()


# ---- what is told when it cannot be


def test_a_missing_program_is_told_with_the_ways_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    with pytest.raises(CannotStart, match=r"^There is no mongod here: install MongoDB .* or set MONGO_URL"):
        embedded.start(folder)


def fake_mongod(folder: Path, script: str) -> str:
    folder.mkdir()
    program = folder / "mongod"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_the_program_on_the_path_goes_first_and_its_last_words_are_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", fake_mongod(tmp_path / "bin", "echo made for another machine; exit 3"))
    with pytest.raises(CannotStart, match=r"MongoDB ended at once \(exit code 3\): made for another machine"):
        embedded.start(folder)
    assert not (folder / "redis").exists()


def test_a_missing_library_is_told_with_its_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = "mongod: error while loading shared libraries: libssl.so.3: cannot open shared object file: No such file"
    monkeypatch.setenv("PATH", fake_mongod(tmp_path / "bin", f"echo '{loader}' >&2; exit 127"))
    with pytest.raises(CannotStart, match=r"MongoDB needs the system library libssl\.so\.3: `apt-get install libssl3`"):
        embedded.start(folder)


def test_without_the_systems_libcurl_the_bundled_one_serves(folder: Path) -> None:
    hidden = "for each in /lib/*/libcurl.so.4 /usr/lib/*/libcurl.so.4 /usr/lib64/libcurl.so.4; do"
    hidden += ' if [ -e "$each" ]; then mount --bind /dev/null "$(readlink -f "$each")" || true; fi; done'
    wheel_only = "export PATH=/usr/bin:/bin; ! command -v mongod >/dev/null"
    done = in_own_mounts(f"{wheel_only} && {hidden}", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "lib" / "libcurl.so.4").is_symlink()


def test_c10_a_full_disk_is_told_in_one_sentence(folder: Path) -> None:
    folder.mkdir()
    done = in_own_mounts('mount -t tmpfs -o size=30m none "$2"', folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The disk that holds {folder} is full: 30 MB are free, 64 MB are needed.")
    assert "Traceback" not in done.stderr


def test_c10_a_disk_too_full_for_a_lock_is_told_too(folder: Path) -> None:
    folder.mkdir()
    done = in_own_mounts('mount -t tmpfs -o size=4k,nr_inodes=1 none "$2"', folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The disk that holds {folder} is full:")


def test_a_folder_that_cannot_be_written_is_told(folder: Path) -> None:
    folder.mkdir()
    done = in_own_mounts('mount -t tmpfs -o ro none "$2"', folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The folder {folder} cannot be used: Read-only file system")


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(CannotStart, match="cannot be used: File exists"):
        embedded.start(tmp_path / "data")


def test_a_server_that_will_not_stop_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOPPED_WITHIN", 0.5)
    servers = embedded.start(folder, only=["redis"])
    pid = servers.pids["redis"]
    os.kill(pid, signal.SIGSTOP)
    servers.release()
    assert not is_alive(pid)
    shutil.rmtree(folder)
