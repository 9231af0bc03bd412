"""Launchers are known by their variables, and what all their processes refuse is said once."""

from __future__ import annotations

import pytest

from tisslm.errors import ConfigError
from tisslm.system import launcher
from tisslm.system.launcher import Launcher, check_size, find_launcher, refuse

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "4",
    "PMIX_RANK": "2",
}
MPICH = {"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2", "PMI_FD": "9"}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_JOB_ID": "17",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (OPEN_MPI, Launcher("Open MPI's mpirun", 2, 4)),
        (MPICH, Launcher("mpiexec", 0, 2)),
        (SRUN, Launcher("srun", 5, 8)),
        (SRUN | {"PMI_RANK": "3", "PMI_SIZE": "32"}, Launcher("mpiexec", 3, 32)),
        ({"FLUX_TASK_RANK": "1", "FLUX_JOB_SIZE": "2"}, Launcher("flux run", 1, 2)),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, Launcher("mpiexec", 0, 1)),
    ],
)
def test_a_launcher_is_known_by_its_variables(environment, expected):
    assert find_launcher(environment) == expected
    assert expected.communicator == "mpi"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "17"},  # a batch script
        {"PMI_RANK": "0"},
        {"PMI_RANK": "", "PMI_SIZE": "2"},
        {"PMI_RANK": "-1", "PMI_SIZE": "2"},
        {"PMI_RANK": "3", "PMI_SIZE": "2"},
        {"PMI_RANK": "²", "PMI_SIZE": "3"},
    ],
)
def test_no_launcher_is_guessed(environment):
    assert find_launcher(environment) is None


def test_this_process_is_asked_by_default(monkeypatch):
    for name, value in MPICH.items():
        monkeypatch.setenv(name, value)
    assert find_launcher() == Launcher("mpiexec", 0, 2)


def test_a_world_of_one_is_refused_where_several_were_started():
    check_size(None, 1)
    check_size(Launcher("srun", 0, 8), 8)
    check_size(Launcher("srun", 0, 1), 1)
    check_size(Launcher("srun", 0, 2), 4)  # two jobs in one world, say
    with pytest.raises(ConfigError) as caught:
        check_size(Launcher("srun", 0, 8), 1)
    assert str(caught.value) == (
        "communicator: srun has started 8 processes, and this one finds 1: the MPI library that "
        "mpi4py loads is another than that of srun. Start them by the mpiexec of that library, or "
        "name the launcher's by MPI4PY_LIBMPI=/path/to/libmpi.so"
    )


def test_only_the_first_process_says_what_all_refuse(monkeypatch):
    waited = []
    monkeypatch.setattr(launcher.time, "sleep", waited.append)
    for alone in (None, Launcher("srun", 0, 2)):
        with pytest.raises(ConfigError, match="no MPI"):
            refuse(ConfigError("no MPI"), alone)
    assert waited == []
    with pytest.raises(SystemExit) as caught:
        refuse(ConfigError("no MPI"), Launcher("srun", 1, 2))
    assert caught.value.code == 3
    assert waited == [5.0]
