"""The rank that ends first is known by its number, unless others follow too soon."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from tisslm.workflows.launch.first_to_end import FirstToEnd

NAME = "TISSLM_TEST_OF_RANKS"


@pytest.fixture
def ranks(tmp_path):
    """Three ranks, each with a child of its own; ``start`` and the first to end among them."""
    waits = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", waits],
            env={**os.environ, NAME: str(tmp_path), "PMI_RANK": str(rank), "PMI_SIZE": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for rank in range(3)
    ]
    first = FirstToEnd(3)
    first.find(NAME, str(tmp_path))
    yield processes, first
    first.close()
    for process in processes:
        process.kill()
        process.communicate()  # the input of the child ends, too


def ready(first):
    return select.select(first.waited_for, [], [], 20)[0]


def test_the_rank_that_is_killed_is_known(ranks):
    processes, first = ranks
    assert len(first.waited_for) == 3
    processes[1].kill()
    first.note(ready(first))
    assert first.who == f"rank 1 (process {processes[1].pid})"
    processes[0].kill()  # as the launcher does
    assert not first.waited_for
    assert first.who == f"rank 1 (process {processes[1].pid})"


def test_of_several_at_once_nobody_says_who_was_first(ranks):
    processes, first = ranks
    for process in processes[:2]:
        process.kill()
        process.wait()
    first.note(ready(first))
    assert not first.who
    assert not first.waited_for


def test_nobody_says_who_was_first_where_another_has_begun_to_end(ranks):
    processes, first = ranks
    processes[2].kill()
    ended = ready(first)
    processes[0].kill()  # what was slower to end may have been the first to begin
    processes[0].wait()
    first.note(ended)
    assert not first.who
    assert not first.waited_for


def test_nothing_is_known_of_processes_of_another_job(ranks, tmp_path):
    first = FirstToEnd(3)
    first.find(NAME, str(tmp_path / "another"))
    assert first.is_sought
    assert not first.waited_for
    other = FirstToEnd(2)  # not what the launcher of these ranks has started
    other.find(NAME, str(tmp_path))
    assert not other.waited_for
