"""Where the ranks of a run are: which share a machine, and how many threads each may have."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from tisslm import ops
from tisslm.contracts import Communicator
from tisslm.errors import ConfigError
from tisslm.ops.threads import resolve_threads
from tisslm.system.processors import cores_of, may_share_cores
from tisslm.training.ranks.agreement import all_say

__all__ = ["Place", "place_ranks"]


class Place(NamedTuple):
    """Where a rank is.

    Attributes
    ----------
    host : str
    processors : frozenset of int
        That it may run on; a core with two threads of its own is two of them.
    threads : int
        Of its kernels.
    """

    host: str
    processors: frozenset[int]
    threads: int


def place_ranks(communicator: Communicator, threads: int | None) -> list[Place]:
    """Give each rank of a machine as many threads as it has cores for, and tell where all are.

    Ranks that may run on the same cores share them evenly, and each is pinned to its own. Nothing
    is done to one rank alone, or to ranks that are threads of one process: the result is empty.

    Parameters
    ----------
    communicator : Communicator
    threads : int or None
        What was asked for; None for a share of the machine.

    Raises
    ------
    ConfigError
        If ranks have more threads than cores, or are bound to fewer cores than the machine has
        for them.
    """
    if communicator.size == 1:
        return []
    asked = _asked(threads)
    own = {
        "host": socket.gethostname(),
        "cores": cores_of(os.sched_getaffinity(0)),
        "machine": len(cores_of(range(os.cpu_count() or 1))),
        "threads": asked,
        "process": os.getpid(),
    }
    told = all_say(communicator, own)
    if len({(one["host"], one["process"]) for one in told}) == 1:
        return []  # ranks that are threads of one process have one pool
    if not may_share_cores():
        for rank, one in enumerate(told):
            _check(rank, one, [other for other in told if other["host"] == one["host"]])
    places = [_place(rank, told) for rank in range(len(told))]
    mine = places[communicator.rank]
    os.sched_setaffinity(0, mine.processors)
    ops.set_threads(mine.threads)
    return places


def _asked(threads: int | None) -> int | None:
    """Return the threads that somebody has asked for, here or in the environment."""
    named = ("TISSLM_NUM_THREADS", "OMP_NUM_THREADS")
    if threads is None and not any(os.environ.get(name) for name in named):
        return None
    return resolve_threads(threads).count


def _check(rank: int, one: dict[str, Any], beside: Sequence[dict[str, Any]]) -> None:
    """Refuse a rank whose threads have no cores, or that is kept from cores that nobody has."""
    cores = {tuple(core) for other in beside for core in other["cores"]}
    wanted = sum(other["threads"] or 1 for other in beside)
    where = f"rank {rank} on {one['host']}"
    if wanted > len(cores):
        raise ConfigError(
            f"ranks: expected at most one thread for each core, got {wanted} threads of "
            f"{len(beside)} ranks on the {len(cores)} cores that {one['host']} has for them; start "
            "fewer ranks there, or lower training.threads"
        )
    if len(one["cores"]) == 1 and one["machine"] >= 2 * len(beside):
        raise ConfigError(
            f"ranks: {where} is bound to one core of {one['machine']}, with {len(beside)} ranks "
            "there; start with mpirun --bind-to none, mpiexec -bind-to none or srun "
            "--cpus-per-task=N, so that each rank has its share"
        )


def _place(rank: int, told: Sequence[dict[str, Any]]) -> Place:
    """Return a rank's part of the cores that it shares with others of its host."""
    one = told[rank]
    sharing = [
        other
        for other, place in enumerate(told)
        if place["host"] == one["host"] and place["cores"] == one["cores"]
    ]
    cores, number = one["cores"], sharing.index(rank)
    if len(sharing) <= len(cores):  # otherwise they were let share
        first, stop = (len(cores) * n // len(sharing) for n in (number, number + 1))
        cores = cores[first:stop]
    processors = frozenset(processor for core in cores for processor in core)
    return Place(one["host"], processors, one["threads"] or (len(cores) if cores else 1))
