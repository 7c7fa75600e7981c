"""What is measured and what it is asked: the faces that stacks, workloads and whoever loads them have in common."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.stacks.world import Place, Running, World


class CannotInstall(Exception):
    """Why a stack's own parts cannot be had here: it is named, and left out."""


class CannotStart(Exception):
    """Why a stack's servers do not come up here: it is named, and left out."""


@dataclass(frozen=True)
class Stack:
    """One server to be measured. `serves` names the workloads it has; None: all of them."""

    name: str
    title: str
    install: Callable[[Path], None]  # into a folder that may be kept between runs; raises CannotInstall
    start: Callable[[Place, int], AbstractContextManager[Running]]  # so many web processes; raises CannotStart
    serves: frozenset[str] | None = None


@dataclass(frozen=True)
class Request:
    """One request. `expect` is what `Workload.right` knows beyond the path and the body."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    expect: Any = None


@dataclass(frozen=True)
class Workload:
    """One row of the contract.

    `plan` gives the requests to send, in this order and then from the beginning. Where `once` is true none of them may
    be sent twice: when they are used up, `plan` gives more. `at_once`: no more than so many at the same time, since a
    server may turn more away. Tokens are good for nine minutes: a plan is not kept longer.
    """

    name: str
    kind: Literal["read", "write", "other"]
    title: str
    plan: Callable[[World], Sequence[Request]]
    right: Callable[[Request, int, Mapping[str, str], bytes], str | None]  # None: right; else what is wrong
    once: bool = False
    at_once: int | None = None
    # `job`: the answer says 201, and `bench.stacks.clients.wait_done` when the work is done.
    # `publish`: `bench.stacks.clients.following` says when each follower heard of it.
    told_by: Literal["answer", "job", "sockets"] = "answer"
