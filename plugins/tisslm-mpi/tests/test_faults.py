"""One row of ``make faults``: a whole training that C's ``_exit(0)`` ends, and which goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "tests"))  # for a pytest of this folder alone

from soak.faults.starting import Place, Way
from soak.faults.striking import prepare, strike, train_whole


def test_a_training_whose_rank_leaves_by_c_fails_and_goes_on_to_the_same_files(mpi, tmp_path):
    if mpi.name != "mpich":
        pytest.skip("Open MPI's launcher sees to it; make faults tries both")
    way, place = Way("mpiexec", "MPICH"), Place(tmp_path)
    prepare(tmp_path)
    found = strike(way, "_exit(0) of C", 1, place, train_whole(way, place))
    assert found.code == 76, found.output
    assert [what for what in found.wrong if "within" not in what] == []  # a machine may be busy
