"""Whatever becomes of one rank, all end, soon, with a code, and it is said which one it was."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("rank_program.py")
HOST = socket.gethostname()
WAITING = rf"rank [02] on {re.escape(HOST)} of 3: "
CULPRIT = rf"rank 1 on {re.escape(HOST)}"


def test_ranks_that_finish_end_well_though_one_takes_longer(mpi):
    ended = mpi.run(3, "finish", STALL="1")
    assert ended.code == 0, ended.output
    assert sorted(re.findall(r"done (\d)", ended.output)) == ["0", "1", "2"]
    assert "tisslm:" not in ended.output


def test_a_rank_that_works_for_long_and_says_so_is_waited_for(mpi):
    ended = mpi.run(3, "long", STALL="1")
    assert ended.code == 0, ended.output
    assert "tisslm:" not in ended.output


def test_ranks_that_were_stopped_for_a_while_blame_nobody(mpi):
    ended = mpi.run(3, "suspended", STALL="2")
    assert ended.code == 0, ended.output
    assert ended.output.count("done") == 3
    assert "tisslm:" not in ended.output


def test_an_error_of_one_rank_ends_all_and_is_shown(mpi):
    ended = mpi.run(3, "exception")
    assert ended.code == 1, ended.output
    assert re.search(rf"{CULPRIT} of 3: has failed, and all ranks are ended", ended.output)
    assert "ValueError: a step went wrong" in ended.output
    assert "done" not in ended.output


def test_all_that_a_rank_has_said_before_it_failed_is_shown(mpi):
    ended = mpi.run(3, "at length")
    assert ended.code == 1, ended.output
    assert re.findall(r"line (\d+) of 2000", ended.output) == [str(n) for n in range(2000)]
    assert "ValueError: a step went wrong" in ended.output


def test_an_error_of_a_thread_is_one_of_its_rank(mpi):
    ended = mpi.run(3, "thread")
    assert ended.code == 1, ended.output
    assert re.search(rf"{CULPRIT} of 3: has failed, and all ranks are ended", ended.output)
    assert "ValueError: a step went wrong" in ended.output


@pytest.mark.parametrize(("mode", "code"), [("exit3", 3), ("exit0", 76), ("_exit0", 76)])
def test_a_rank_that_ends_alone_ends_all(mpi, mode, code):
    ended = mpi.run(3, mode)
    assert ended.code == code, ended.output
    assert re.search(WAITING + CULPRIT + r" ends, and this one waits \(exchange\)", ended.output)
    assert "done" not in ended.output


def test_ranks_that_all_end_with_a_code_keep_it(mpi):
    ended = mpi.run(3, "all_exit3")
    assert ended.code == 3, ended.output


def test_an_abort_ends_all_with_its_code(mpi):
    ended = mpi.run(3, "abort")
    assert ended.code == 75, ended.output
    assert "done" not in ended.output


@pytest.mark.parametrize("mode", ["stop", "still"])
def test_a_rank_that_stands_still_is_named_with_the_stacks_of_all(mpi, mode):
    ended = mpi.run(3, mode, STALL="5" if mode == "stop" else "2")
    assert ended.code == 76, ended.output
    said = {
        "stop": r" has not answered for \d s \(exchange\): it has been stopped or has ended",
        "still": r" \(after 'step 19, exchange'\) has done nothing that is known, and others wait "
        r"for it for \d s \(exchange\)",
    }
    assert re.search(WAITING + CULPRIT + said[mode], ended.output), ended.output
    assert " in loop\n" in ended.output
    stacks = re.findall(r"rank (\d) on \S+ of 3: stacks of its threads", ended.output)
    if mode == "stop":  # Open MPI's launcher wakes it to end it, and it may come to tell its own
        stacks = [rank for rank in stacks if rank != "1"]
    assert sorted(stacks) == (["0", "2"] if mode == "stop" else ["0", "1", "2"])


def test_ranks_that_wait_for_one_another_are_ended(mpi):
    ended = mpi.run(3, "deadlock", STALL="2")
    assert ended.code == 76, ended.output
    assert re.search(r"all ranks wait for \d s \(barrier\)", ended.output)
    assert f"rank 2 on {HOST} in broadcast" in ended.output


def test_arrays_that_do_not_fit_are_an_error(mpi):
    ended = mpi.run(2, "differ")
    assert ended.code == 1, ended.output
    assert "Every rank makes the same calls in the same order" in ended.output


@pytest.mark.parametrize("mode", ["kill", "vanish"])
def test_a_rank_that_is_gone_ends_all_and_is_named(mpi, mode):
    """The launcher is quicker than the watch, unless the machine is too busy for it.

    MPICH's would call a rank's code 0 the job's.
    """
    ended = mpi.run(3, mode)
    assert "done" not in ended.output
    named = (
        rf"tisslm: {CULPRIT} of 3 \(process \d+\): has vanished, before any other on its machine"
    )
    if mpi.name == "mpich":
        assert re.search(named, ended.output), ended.output
    assert ended.output.count("has vanished") == (mpi.name == "mpich"), ended.output
    if (mpi.name, mode) == ("mpich", "vanish"):
        assert ended.code == 76, ended.output
    else:
        assert ended.code != 0, ended.output
        assert HOST in ended.output


@pytest.mark.skipif(os.geteuid() != 0, reason="machines are named by root only")
def test_a_rank_that_is_gone_is_named_by_its_own_machine(mpi):
    """Open MPI's launcher would name one elsewhere that has lost it, if that is quicker to fail."""
    name = 'hostname "h${OMPI_COMM_WORLD_RANK:-$PMI_RANK}"; exec "$@"'
    ended = mpi.program(3, PROGRAM, "kill", before=["unshare", "--uts", "sh", "-c", name, "sh"])
    assert ended.code != 0, ended.output
    assert re.search(r"rank 1 on h1 of 3 \(process \d+\): has vanished", ended.output)


def test_a_rank_that_is_gone_ends_all_at_once_where_the_launcher_does_not_care(mpi):
    if mpi.name != "mpich":
        pytest.skip("Open MPI's launcher always ends the others")
    ended = mpi.run(3, "vanish", "-disable-auto-cleanup", STALL="60")
    assert ended.code == 76, ended.output
    assert re.search(rf"{CULPRIT} of 3 \(process \d+\): has vanished", ended.output)
    assert "has not answered" not in ended.output


def test_ranks_do_not_wait_for_ever_for_one_that_never_comes(mpi):
    ended = mpi.run(3, "absent", STALL="1")
    assert ended.code != 0, ended.output
    assert "Timeout (0:00:03)!" in ended.output
    assert "in load_mpi" in ended.output
    assert "done" not in ended.output
