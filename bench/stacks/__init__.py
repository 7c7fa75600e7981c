"""The servers that are measured, what they are asked, and what is planted in them: see `bench/contract.md`."""

from collections.abc import Sequence

from bench.stacks.faces import CannotInstall, CannotStart, Request, Stack, Workload
from bench.stacks.ours import bare, msingi
from bench.stacks.peers import express, fastapi, fastify
from bench.stacks.workloads import WORKLOADS
from bench.stacks.world import Person, Place, Running, World, plant

STACKS: Sequence[Stack] = (msingi, express, fastify, fastapi, bare)

__all__ = [
    "STACKS",
    "WORKLOADS",
    "CannotInstall",
    "CannotStart",
    "Person",
    "Place",
    "Request",
    "Running",
    "Stack",
    "Workload",
    "World",
    "plant",
]
