"""Cores and memories of a machine, as ``/sys`` describes them."""

from __future__ import annotations

import pytest

from tisslm.system.processors import cores_of, may_share_cores, memory_nodes


@pytest.fixture
def machine(tmp_path):
    """Return a machine of two memories, each with two cores of two threads: 0 and 4 are one."""
    for number in range(8):
        folder = tmp_path / "cpu" / f"cpu{number}"
        (folder / "topology").mkdir(parents=True)
        (folder / "topology" / "thread_siblings_list").write_text(
            f"{number % 4},{number % 4 + 4}\n"
        )
        (folder / f"node{number % 2}").mkdir()
    return tmp_path


def test_two_threads_are_one_core_and_cores_of_one_memory_are_side_by_side(machine):
    assert cores_of(range(8), machine) == [[0, 4], [2, 6], [1, 5], [3, 7]]
    assert cores_of([5, 2, 1], machine) == [[2], [1, 5]]


def test_only_memories_of_usable_processors_count(machine):
    assert memory_nodes(range(8), machine) == 2
    assert memory_nodes([0, 2, 4], machine) == 1


def test_a_system_that_does_not_tell_has_a_core_for_each_processor_and_one_memory(tmp_path):
    assert cores_of([1, 0], tmp_path) == [[0], [1]]
    assert memory_nodes([0, 1], tmp_path) == 1


def test_sharing_cores_is_allowed_by_a_variable():
    assert may_share_cores({"TISSLM_OVERSUBSCRIBE": "1"})
    assert not may_share_cores({"TISSLM_OVERSUBSCRIBE": "0"})
    assert not may_share_cores({})
