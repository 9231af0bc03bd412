"""Files changed at random, of every kind: accepted, or refused in one of our sentences.

``make fuzz`` reads more of them; the cases here are its first ones.
"""

from __future__ import annotations

from random import Random

import pytest
from fuzz import worker
from fuzz.mutators import changed_bytes, changed_json, changed_lines
from fuzz.running import run
from fuzz.targets import TARGETS

from tisslm.errors import DataError

COUNT = 300


@pytest.mark.parametrize("target", TARGETS)
def test_changed_files_are_accepted_or_refused_in_a_sentence(target):
    found = run(target, COUNT)
    assert not found.failures, "\n\n".join(
        f"{target}, case {number}: {failure}" for number, failure in found.failures.items()
    )
    assert found.count == COUNT
    assert found.accepted > 0  # else only the first check of all was tested
    assert found.refused > 0


@pytest.mark.parametrize("change", [changed_bytes, changed_json, changed_lines])
def test_a_seed_gives_the_same_change(change):
    content = b'{"a": [1, 2.5, "x"], "b": {"c": null}}\n'
    made = [change(Random(i), content) for i in range(50)]
    assert made == [change(Random(i), content) for i in range(50)]
    assert len(set(made)) > 30
    assert max(map(len, made)) < 3 * 10**5


def test_what_is_no_error_of_ours_is_a_failure():
    def ours():
        raise DataError("one sentence")

    def long():
        raise DataError("a" * 5000)

    assert worker.read([ours, list]) == (["one sentence"], "")
    assert "ZeroDivisionError" in worker.read([lambda: 1 / 0])[1]
    assert "a message of 5000 characters" in worker.read([long])[1]


def test_a_process_that_ends_is_a_failure_and_the_next_cases_follow():
    found = run("fuzz.dying", 7)
    assert (found.accepted, list(found.failures)) == (5, [2, 5])
    assert "the process ended" in found.failures[2]


def test_time_and_memory_beyond_the_limits_are_failures():
    found = run("fuzz.greedy", 3)
    assert (found.accepted, list(found.failures)) == (1, [1, 2])
    assert found.failures[1].startswith("it took 2.")
    assert found.failures[2] in {f"it took {n} MiB" for n in range(600, 620)}
