"""The mpi communicator for TissLM: the hook that names it. The class is in ``communicator.py``."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_communicators"]


@hookimpl
def tisslm_communicators() -> Iterable[Entry]:
    """Yield mpi."""
    yield Entry(
        "mpi",
        "tisslm_mpi.communicator:MPICommunicator",
        "the ranks that mpiexec or srun starts",
    )
