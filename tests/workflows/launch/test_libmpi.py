"""The ``mpiexec`` of the MPI that the ranks will load; libraries and commands are stand-ins."""

from __future__ import annotations

import os

import pytest

from tisslm.errors import ConfigError
from tisslm.workflows.launch import libmpi
from tisslm.workflows.launch.libmpi import MPI, find_mpi

HYDRA, PRTE, OPEN = "HYDRA build details:", "prterun (PRRTE) 3.0.14", "mpirun (Open MPI) 4.1.4"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """``installed(vendor, "lib/x.so", {"bin/mpiexec": "what it says"})`` in a folder."""

    def install(vendor, path, commands):
        found = {"vendor": vendor, "paths": [str(tmp_path / path)]}
        monkeypatch.setattr(libmpi, "_probe", lambda environment: found)
        for name, words in commands.items():
            command = tmp_path / name
            command.parent.mkdir(parents=True, exist_ok=True)
            command.write_text(f"#!/bin/sh\necho '{words}'\n")
            command.chmod(0o755)
        return {"PATH": str(tmp_path / "elsewhere")}

    return install


def test_of_two_libraries_in_one_folder_each_has_its_own_command(installed, tmp_path):
    commands = {"bin/mpiexec": HYDRA, "bin/mpiexec.hydra": HYDRA, "bin/prterun": PRTE}
    found = find_mpi(installed("MPICH", "lib/libmpi.so.12", commands))
    assert found.command[0] == str(tmp_path / "bin/mpiexec.hydra")
    assert found.command[-2:] == ("-bind-to", "none")
    found = find_mpi(installed("Open MPI", "lib/libmpi.so.40", commands))
    assert found.command[:3] == (str(tmp_path / "bin/prterun"), "--personality", "ompi")
    assert found.command[-2:] == ("--bind-to", "none")
    assert found.environment["OPAL_PREFIX"] == str(tmp_path)
    assert found.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"


def test_a_library_of_the_system_has_its_command_in_the_path(installed, tmp_path):
    commands = {"elsewhere/mpiexec": HYDRA, "elsewhere/mpirun.openmpi": OPEN}
    found = find_mpi(installed("Open MPI", "usr/lib/x86/openmpi/lib/libmpi.so.40", commands))
    assert found.command[0] == str(tmp_path / "elsewhere/mpirun.openmpi")
    assert "OPAL_PREFIX" not in found.environment  # it has not been moved


def test_what_a_user_says_of_the_place_of_open_mpi_stays(installed):
    environment = installed("Open MPI", "lib/libmpi.so.40", {"bin/prterun": PRTE})
    assert "PRTE_PREFIX" not in find_mpi({**environment, "OPAL_PREFIX": "/opt"}).environment


def test_the_command_of_another_library_does_not_serve(installed, tmp_path):
    environment = installed("Open MPI", "lib/libmpi.so.40", {"bin/mpiexec": HYDRA})
    with pytest.raises(ConfigError) as caught:
        find_mpi(environment)
    assert str(caught.value) == (
        f"launch: mpi4py loads Open MPI ({tmp_path}/lib/libmpi.so.40), and there is no mpiexec of "
        "it, neither beside the library nor in PATH; install that of the same package, or name "
        "another library by MPI4PY_LIBMPI=/path/to/libmpi.so"
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"missing": "mpi4py"}, "launch: several ranks need mpi4py, which is not installed; "),
        ({"problem": "cannot load"}, "launch: mpi4py finds no MPI library (cannot load); "),
        ({}, "launch: mpi4py finds no MPI library (no answer); "),
        (
            {"vendor": "Acme", "paths": []},
            "launch: expected MPICH, Open MPI or Intel MPI, got Acme; ",
        ),
    ],
)
def test_what_is_missing_is_said(monkeypatch, found, words):
    monkeypatch.setattr(libmpi, "_probe", lambda environment: found)
    with pytest.raises(ConfigError) as caught:
        find_mpi({})
    assert str(caught.value).startswith(words)


def test_a_process_is_asked_that_loads_the_library():
    found = libmpi._probe({**os.environ, "MPI4PY_LIBMPI": "/nowhere/libmpi.so"})
    assert found in ({"missing": "mpi4py"}, {"problem": "cannot load MPI library"})


@pytest.mark.parametrize(
    ("vendor", "code", "expected"),
    [
        ("MPICH", 9, 137),
        ("Open MPI", 137, 137),
        ("MPICH", -9, 137),
        ("MPICH", 3, 3),
        ("MPICH", 75, 75),
        ("Open MPI", 9, 9),
    ],
)
def test_a_signal_is_an_exit_code_as_a_shell_has_it(vendor, code, expected):
    assert MPI(vendor, (), {}).exit_code(code) == expected
