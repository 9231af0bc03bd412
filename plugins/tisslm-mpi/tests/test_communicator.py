"""MPICommunicator keeps the contract on any number of ranks, under both libraries."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tisslm_mpi import transfers


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_ranks_keep_the_contract(mpi, n):
    ended = mpi.run(n, "conformance")
    assert (ended.code, ended.output.count("True passed")) == (0, n), ended.output


def test_arrays_beyond_one_message_arrive_whole(mpi):
    ended = mpi.run(3, "parts")
    assert (ended.code, ended.output.count("True passed")) == (0, 3), ended.output


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7])
def test_parts_are_the_array_itself(monkeypatch, length):
    monkeypatch.setattr(transfers, "PART", 8)
    array = np.arange(length, dtype=np.float32)
    found = list(transfers.parts(array))
    assert [len(part) for part in found] == [8] * (length // 2) + [4] * (length % 2)
    assert b"".join(part.tobytes() for part in found) == array.tobytes()
    assert all(np.shares_memory(part, array) for part in found)


def test_nothing_of_mpi_is_imported_before_it_is_used(started):
    code = (
        "import sys; from tisslm.registry import load_registry; "
        "load_registry().build('communicator', 'local'); import tisslm_mpi; "
        "print([name for name in sys.modules if name.startswith(('mpi4py', 'tisslm_mpi.'))])"
    )
    assert started([sys.executable, "-c", code]).output == "[]\n"


def test_an_option_that_is_none_is_refused(started):
    code = "from tisslm_mpi.communicator import MPICommunicator as C; C(stall_timeout=-1)"
    ended = started([sys.executable, "-c", code])
    assert ended.output.rstrip().endswith(
        "communicator mpi: stall_timeout: expected a finite number >= 0, got -1"
    )
