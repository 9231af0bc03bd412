"""How many ranks are started, and which numbers are refused."""

from __future__ import annotations

import os

import pytest

from tisslm.errors import ConfigError
from tisslm.workflows.launch.ranks import count_ranks


@pytest.fixture(autouse=True)
def _four_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.delenv("TISSLM_OVERSUBSCRIBE", raising=False)
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("nodes", "expected"), [(1, 1), (2, 2), (4, 4)])
def test_without_a_number_there_is_one_for_each_memory(tmp_path, nodes, expected):
    for number in range(4):
        (tmp_path / f"cpu/cpu{number}/node{number % nodes}").mkdir(parents=True)
    assert count_ranks(None, tmp_path) == expected


def test_as_many_as_cores_are_started_and_more_if_they_may_share(tmp_path, monkeypatch):
    assert count_ranks(4, tmp_path) == 4
    with pytest.raises(ConfigError) as caught:
        count_ranks(5, tmp_path)
    assert str(caught.value) == (
        "launch: expected -n of at most one rank for each of the 4 cores, got 5; start fewer, or "
        "let them share cores, slowly, with TISSLM_OVERSUBSCRIBE=1"
    )
    monkeypatch.setenv("TISSLM_OVERSUBSCRIBE", "1")
    assert count_ranks(5, tmp_path) == 5


@pytest.mark.parametrize("asked", [0, -1])
def test_none_are_refused(tmp_path, asked):
    with pytest.raises(
        ConfigError, match=rf"^launch: expected -n of 1 or more ranks, got {asked};"
    ):
        count_ranks(asked, tmp_path)


def test_a_launcher_inside_of_another_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "4")
    with pytest.raises(ConfigError) as caught:
        count_ranks(1, tmp_path)
    assert str(caught.value) == (
        "launch: mpiexec has started this as process 1 of 4, and each would start ranks of its "
        "own; start tisslm train so"
    )
