"""How many ranks this machine is given, and what is refused before any is started."""

from __future__ import annotations

import os
from pathlib import Path

from tisslm.errors import ConfigError
from tisslm.system.launcher import find_launcher
from tisslm.system.processors import OVERSUBSCRIBE, SYSTEM, cores_of, may_share_cores, memory_nodes

__all__ = ["count_ranks"]


def count_ranks(asked: int | None, system: Path = SYSTEM) -> int:
    """Return how many ranks are started: as asked for, or one for each memory (NUMA node).

    Parameters
    ----------
    asked : int or None
    system : Path, optional
        Where the machine is described.

    Raises
    ------
    ConfigError
        If there are to be none, or more than cores, or if this process is itself one of several.
    """
    launcher = find_launcher()
    if launcher is not None and launcher.size > 1:
        raise ConfigError(
            f"launch: {launcher.name} has started this as process {launcher.rank} of "
            f"{launcher.size}, and each would start ranks of its own; start tisslm train so"
        )
    processors = os.sched_getaffinity(0)
    if asked is None:
        return memory_nodes(processors, system)
    if asked < 1:
        raise ConfigError(
            f"launch: expected -n of 1 or more ranks, got {asked}; leave it out for one a NUMA node"
        )
    cores = len(cores_of(processors, system))
    if asked > cores and not may_share_cores():
        raise ConfigError(
            f"launch: expected -n of at most one rank for each of the {cores} cores, got {asked}; "
            f"start fewer, or let them share cores, slowly, with {OVERSUBSCRIBE}=1"
        )
    return asked
