"""What processes take, and how quiet the machine is: CPU seconds, memory, a fixed piece of work, stolen time."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

SPINS = 3
TURNS = 400_000
IDLE_FOR = 2.0  # seconds over which servers that nobody asks are watched
QUIET_FOR = 0.1  # seconds without work after which a server has finished
LOOKED_EVERY = 0.02


def family(pids: Sequence[int]) -> list[psutil.Process]:
    """These processes and all that they started, without doubles."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found |= {each.pid: each for each in [process, *process.children(recursive=True)]}
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def cpu_seconds(pids: Sequence[int]) -> float:
    """What they have used so far, in the system too, and what those of their children used that have ended."""
    total = 0.0
    for each in family(pids):
        try:
            total += sum(each.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def megabytes(pids: Sequence[int], without: Sequence[int] = ()) -> float:
    """Their memory (PSS): a page that several processes share counts once, in parts. Some may count elsewhere."""
    elsewhere = {each.pid for each in family(without)}
    return sum(_pss(each.pid) for each in family(pids) if each.pid not in elsewhere) / 1024


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def idle_cores(pids: Sequence[int]) -> float:
    """How much of a core they use while nobody asks them."""
    before, began = cpu_seconds(pids), time.monotonic()
    time.sleep(IDLE_FOR)
    return (cpu_seconds(pids) - before) / (time.monotonic() - began)


def settle(pids: Sequence[int], patience: float = 20.0) -> None:
    """Wait until they have finished what was asked of them, so that it is not in the way of the next."""
    end, quiet, before = time.monotonic() + patience, 0.0, cpu_seconds(pids)
    while quiet < QUIET_FOR and time.monotonic() < end:
        time.sleep(LOOKED_EVERY)
        now = cpu_seconds(pids)
        quiet = quiet + LOOKED_EVERY if now - before < LOOKED_EVERY / 2 else 0.0
        before = now


# ---- how quiet it is


def spin(clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a fixed piece of work takes, at best: more of them when others use the machine or it is slowed."""
    return min(_spun(clock) for _ in range(SPINS))


def _spun(clock: Callable[[], float]) -> float:
    began, total = clock(), 0
    for number in range(TURNS):
        total += number
    return clock() - began


def stolen() -> tuple[float, float]:
    """Ticks that the host took from this machine, and all ticks, since it started."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return float(ticks[7]), float(sum(ticks))


# ---- what was measured


def percentile(values: Sequence[float], part: float) -> float:
    """Of all values, the one below which so many in a hundred lie; 0 if there are none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part / 100))] if values else 0.0
