"""How the ranks of a run are started: by ``tisslm launch`` or plain launchers, on one host or more.

A host is this machine, or a network namespace (``benchmarks/namespaces.py``).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tisslm.workflows.launch.libmpi import MPI, find_mpi

__all__ = ["RANKS", "WAYS", "Place", "Way"]

RANKS = 3

#: The libraries of the wheels, which may lie side by side.
LIBRARIES = {"MPICH": "lib/libmpi.so.12", "Open MPI": "lib/libmpi.so.40"}

#: What a user says to the plain launchers; Open MPI's: more ranks than cores, and not one a core.
OPTIONS = {
    "MPICH": (),
    "Open MPI": ("--personality", "ompi", "--oversubscribe", "--bind-to", "none"),
}

ROOT = Path(__file__).parents[3]


def _no_link(host: str, state: str) -> list[str]:
    raise ValueError(f"{host} has no link")


@dataclass(frozen=True)
class Place:
    """Where the ranks of a run are started.

    Attributes
    ----------
    folder : Path
        Which all of them see.
    hosts : sequence of str
        One for each rank.
    agent : Path
        Runs a command on a host, called as ssh is.
    link : callable
        Returns the command that cuts a host off (``"down"``) or connects it again (``"up"``).
    """

    folder: Path
    hosts: Sequence[str] = ("here",) * RANKS
    agent: Path = Path("ssh")
    link: Callable[[str, str], list[str]] = _no_link


@dataclass(frozen=True)
class Way:
    """A way to start the ranks.

    Attributes
    ----------
    name : str
    vendor : str
        Of the MPI library.
    is_launch : bool
        Whether ``tisslm launch`` stands above MPI's launcher.
    several : bool
        Whether each rank has a host of its own; the first has the launcher, too.
    """

    name: str
    vendor: str
    is_launch: bool = False
    several: bool = False

    @property
    def lacks(self) -> str:
        """The library's file that is not here, or ""."""
        path = Path(sys.prefix) / LIBRARIES[self.vendor]
        return "" if path.exists() else str(path)

    def line(self, run: Path, place: Place, *more: str) -> list[str]:
        """Return the command that trains into a folder of a run, with further arguments."""
        settings = ["run.toml", "--set", f"training.output_dir={run.name}", *more]
        tisslm = [sys.executable, "-m", "tisslm"]
        if self.is_launch:
            return [*tisslm, "launch", "-n", str(RANKS), *settings]
        plain = [self._mpi.command[0], *OPTIONS[self.vendor]]
        line = [*plain, *self._hosts(place), "-n", str(RANKS), *tisslm, "train", *settings]
        return [str(place.agent), place.hosts[0], shlex.join(line)] if self.several else line

    def environment(self) -> Mapping[str, str]:
        """Return the environment of the command."""
        return {**_surroundings(self.vendor), **self._mpi.environment}

    @property
    def _mpi(self) -> MPI:
        return _mpi_of(self.vendor)

    def _hosts(self, place: Place) -> list[str]:
        if not self.several:
            return []
        if self.vendor == "MPICH":
            by = ["-launcher", "ssh", "-launcher-exec", str(place.agent), "-iface", "eth0"]
            return [*by, "-hosts", ",".join(place.hosts), "-ppn", "1"]
        by = [
            "--prtemca",
            "plm_ssh_agent",
            str(place.agent),
            "--prtemca",
            "prte_if_include",
            "eth0",
        ]
        by += ["--mca", "btl_tcp_if_include", "eth0", "--map-by", "node"]
        return [*by, "--host", ",".join(f"{host}:1" for host in place.hosts)]


WAYS = (
    Way("launch (MPICH)", "MPICH", is_launch=True),
    Way("launch (Open MPI)", "Open MPI", is_launch=True),
    Way("mpiexec (MPICH)", "MPICH"),
    Way("mpirun (Open MPI)", "Open MPI"),
    Way("mpiexec, 3 hosts", "MPICH", several=True),
    Way("mpirun, 3 hosts", "Open MPI", several=True),
)


@cache
def _mpi_of(vendor: str) -> MPI:
    return find_mpi(_surroundings(vendor))


def _surroundings(vendor: str) -> dict[str, str]:
    paths = [str(ROOT / part) for part in ("", "plugins/tisslm-mpi/src", "tests")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "MPI4PY_LIBMPI": str(Path(sys.prefix) / LIBRARIES[vendor]),
        "OMP_NUM_THREADS": "1",
        "TISSLM_OVERSUBSCRIBE": "1",
    }
