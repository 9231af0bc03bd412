"""What has started this process, where that starts several: read from the environment alone.

A launcher (MPICH's ``mpiexec``, Open MPI's ``mpirun``, Slurm's ``srun``) starts a program on many
cores or machines at once, and tells each process its number. Whether these processes also find one
another is up to a communicator; without one, each would do the whole work, in one directory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from tisslm.errors import ConfigError

__all__ = ["Launcher", "check_size", "find_launcher", "refuse"]

#: Names of a launcher's variables: rank and size. The first pair that a process has is its own:
#: mpiexec may start its ranks by srun, one task a machine, and then they have variables of both.
_VARIABLES = (
    ("Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MVAPICH's mpirun", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("flux run", "FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    ("mpiexec", "PMI_RANK", "PMI_SIZE"),
    ("mpiexec", "PALS_RANKID", "PALS_SIZE"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)

#: For how long the other processes of a launcher wait for the first one's message to end them all.
_PATIENCE = 5.0


@dataclass(frozen=True)
class Launcher:
    """Who started this process, as which of how many.

    Attributes
    ----------
    name : str
        Such as ``srun``, for messages.
    rank : int
        Number of this process, from 0.
    size : int
        How many it started; may be 1.
    communicator : str
        Name of the communicator by which such processes find one another.
    """

    name: str
    rank: int
    size: int
    communicator: str = "mpi"


def find_launcher(environment: Mapping[str, str] = os.environ) -> Launcher | None:
    """Return the launcher of this process, None if it was started by itself.

    A batch script of Slurm runs once, outside of ``srun``: that is no launcher, whatever the number
    of tasks that the job may have.

    Parameters
    ----------
    environment : mapping, optional
        This process's, if left out.
    """
    for name, *variables in _VARIABLES:
        rank, size = (_number(environment.get(variable, "")) for variable in variables)
        if 0 <= rank < size:
            return Launcher(name, rank, size)
    return None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1


def check_size(launcher: Launcher | None, size: int) -> None:
    """Refuse a world of one process where a launcher has started several.

    Parameters
    ----------
    launcher : Launcher, optional
    size : int
        How many processes the communicator has found.

    Raises
    ------
    ConfigError
        On the first process; the others wait to be ended (:func:`refuse`).
    """
    if launcher is None or launcher.size == 1 or size > 1:
        return
    refuse(
        ConfigError(
            f"communicator: {launcher.name} has started {launcher.size} processes, and this one "
            f"finds {size}: the MPI library that mpi4py loads is another than that of "
            f"{launcher.name}. Start them by the mpiexec of that library, or name the launcher's "
            "by MPI4PY_LIBMPI=/path/to/libmpi.so"
        ),
        launcher,
    )


def refuse(error: ConfigError, launcher: Launcher | None) -> NoReturn:
    """Raise an error that every process of a launcher has, so that it is told once.

    Parameters
    ----------
    error : ConfigError
    launcher : Launcher, optional

    Raises
    ------
    ConfigError
        On the first process, or without a launcher.
    SystemExit
        On the others, with the code of an error of configuration, if the end of the first has not
        ended them.
    """
    if launcher is None or launcher.rank == 0:
        raise error
    time.sleep(_PATIENCE)
    raise SystemExit(3)
