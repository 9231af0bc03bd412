"""Whole runs under MPI: for any number of ranks, the numbers and the files of one."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RUN = HERE / "run_program.py"


def result(ended):
    """Return what the first rank has printed, if the job has ended well."""
    assert ended.code == 0, ended.output
    return json.loads(ended.output.strip().splitlines()[-1])["found"]


def listing(folder: Path) -> dict[str, bytes]:
    """Return all files by name, with the contents of those that have no times in them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            keeps = path.suffix == ".safetensors"
            found[str(path.relative_to(folder))] = path.read_bytes() if keeps else b""
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one rank has, by the library: the same for both, and kept from one to the other."""
    return {"folder": tmp_path_factory.mktemp("alone")}


def of_one_rank(mpi, alone):
    if "found" not in alone:
        alone["found"] = result(mpi.program(1, RUN, str(alone["folder"] / "run"), "whole"))
    return alone["found"]


#: Which sizes each library is tried with: all with either takes two minutes more on two cores.
SIZES = {"mpich": (2, 5, 8), "openmpi": (3, 4)}


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
def test_any_number_of_ranks_has_the_bits_of_one(mpi, alone, tmp_path, size):
    if size not in SIZES[mpi.name] and not os.environ.get("TISSLM_ALL_RANKS"):
        pytest.skip("tried with the other library; TISSLM_ALL_RANKS=1 tries all with both")
    expected = of_one_rank(mpi, alone)
    found = result(mpi.program(size, RUN, str(tmp_path / "run"), "whole"))
    assert found == expected
    assert found["fp32-1"][:4] == found["fp32-2"][:4]
    assert found["bf16-1"][0] != found["fp32-1"][0]
    assert listing(tmp_path / "run") == listing(alone["folder"] / "run")


def test_a_run_goes_on_with_other_numbers_of_ranks(mpi, alone, tmp_path):
    expected = of_one_rank(mpi, alone)["fp32-1"]
    run = tmp_path / "run"
    result(mpi.program(2, RUN, str(run), "begin"))
    assert result(mpi.program(3, RUN, str(run), "resume"))["fp32-1"] == expected
    for step in (20, 30):
        shutil.rmtree(run / "checkpoints" / f"checkpoint-{step}")
    assert result(mpi.program(1, RUN, str(run), "resume"))["fp32-1"] == expected


def test_every_optimizer_updates_its_part(mpi, tmp_path):
    expected = result(mpi.program(1, RUN, str(tmp_path / "one"), "optimizers"))
    assert result(mpi.program(2, RUN, str(tmp_path / "two"), "optimizers")) == expected


@pytest.mark.parametrize("what", ["raise", "SIGKILL", "SIGSTOP"])
def test_a_rank_that_fails_while_weights_come_back_ends_all(mpi, tmp_path, what):
    ended = mpi.program(3, RUN, str(tmp_path / "run"), "hindered", what)
    culprit = rf"rank 1 on {re.escape(socket.gethostname())}"
    assert '"found"' not in ended.output
    if what == "raise":
        assert ended.code == 1, ended.output
        assert re.search(culprit + " of 3: has failed, and all ranks are ended", ended.output)
        assert "OSError: the cable was cut" in ended.output
    elif what == "SIGKILL":
        assert ended.code != 0, ended.output
    else:
        assert ended.code == 76, ended.output
        assert re.search(culprit + r" has not answered for \d s \(\w+\)", ended.output)
        assert " in _work\n" in ended.output  # the stack of the thread that waits


def test_a_run_is_saved_that_is_asked_to_leave_while_weights_come_back(mpi, alone, tmp_path):
    expected = of_one_rank(mpi, alone)["fp32-1"]
    left = result(mpi.program(3, RUN, str(tmp_path / "run"), "hindered", "SIGUSR1"))
    assert left["fp32-1"][0] == "SIGUSR1"
    assert left["fp32-1"][1] in (12, 13)
    assert result(mpi.program(2, RUN, str(tmp_path / "run"), "resume"))["fp32-1"] == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="file systems can be mounted by root only")
def test_ranks_that_share_no_files_leave_those_of_one(mpi, alone, tmp_path):
    """Each but the first has an empty file system of its own where the run is written."""
    expected = of_one_rank(mpi, alone)["fp32-1"]
    place = tmp_path / "place"
    place.mkdir()
    alone_with_it = (
        'r="${OMPI_COMM_WORLD_RANK:-$PMI_RANK}"; '
        f'[ "$r" = 0 ] || mount -t tmpfs none {place}; exec "$@"; '
    )
    wrapped = ["unshare", "-m", "sh", "-c", alone_with_it, "sh"]
    result(mpi.program(3, RUN, str(place / "run"), "begin", before=wrapped))
    found = result(mpi.program(3, RUN, str(place / "run"), "resume", before=wrapped))
    assert found["fp32-1"] == expected
    assert listing(place / "run") == listing(alone["folder"] / "run" / "fp32-1")


def test_ranks_of_other_settings_are_refused_once(mpi, tmp_path):
    """What differs, and where, is said by the first rank; nothing is written."""
    code = (
        "import os, sys; from tisslm.cli.main import main; "
        "r = os.environ.get('OMPI_COMM_WORLD_RANK') or os.environ['PMI_RANK']; "
        f"main(['train', '--set', 'training.output_dir={tmp_path}/run', "
        "'--set', f'training.learning_rate={0.1 + int(r)}', '--set', 'training.threads=1'])"
    )
    ended = mpi.command(2, "-c", code)
    assert ended.code == 3, ended.output
    assert ended.output.count("error:") == 1, ended.output
    assert "error: ranks: expected learning_rate to be the same on all, got 0.1 on rank 0" in (
        ended.output
    )
    assert not (tmp_path / "run").exists()
