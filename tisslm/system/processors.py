"""Processors of this machine: which are one core, and which memories they are close to.

Read from ``/sys``; nothing of it is set here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["OVERSUBSCRIBE", "SYSTEM", "cores_of", "may_share_cores", "memory_nodes"]

#: Set to 1, it lets ranks share cores: tests have more ranks than a machine has cores.
OVERSUBSCRIBE = "TISSLM_OVERSUBSCRIBE"

#: Where Linux describes the machine.
SYSTEM = Path("/sys/devices/system")


def may_share_cores(environment: Mapping[str, str] = os.environ) -> bool:
    """Return True if somebody has allowed more threads than cores."""
    return environment.get(OVERSUBSCRIBE) == "1"


def cores_of(processors: Iterable[int], system: Path = SYSTEM) -> list[list[int]]:
    """Return processors by the core that they are of, cores of one memory side by side.

    Parameters
    ----------
    processors : iterable of int
    system : Path, optional
    """
    found: dict[tuple[int, str], list[int]] = {}
    for number in sorted(processors):
        folder = system / f"cpu/cpu{number}"
        nodes = [int(path.name[4:]) for path in folder.glob("node[0-9]*")]
        try:
            siblings = (folder / "topology" / "thread_siblings_list").read_text().strip()
        except OSError:  # a system that does not tell: each is a core
            siblings = str(number)
        found.setdefault((min(nodes, default=0), siblings), []).append(number)
    order = sorted(found, key=lambda key: (key[0], found[key]))
    return [found[key] for key in order]


def memory_nodes(processors: Iterable[int], system: Path = SYSTEM) -> int:
    """Return how many memories (NUMA nodes) some processors are close to; at least 1.

    Parameters
    ----------
    processors : iterable of int
    system : Path, optional
    """
    nodes = {
        min((path.name for path in (system / f"cpu/cpu{number}").glob("node[0-9]*")), default="")
        for number in processors
    }
    return max(1, len(nodes - {""}))
