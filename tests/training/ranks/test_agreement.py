"""What ranks have to know alike, and what becomes of them where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from thread_ranks import run_ranks

from tisslm.contracts import Rows
from tisslm.errors import ConfigError, RanksError
from tisslm.training.ranks.agreement import (
    all_say,
    check_alike,
    check_weights,
    counts_of_ranks,
    first_says,
    rows_of_all,
    sum_in_order,
)


def test_everybody_is_heard_and_the_first_decides():
    said = run_ranks(3, lambda rank: all_say(rank, {"rank": rank.rank}))
    assert said == [[{"rank": 0}, {"rank": 1}, {"rank": 2}]] * 3
    assert run_ranks(3, lambda rank: first_says(rank, [rank.rank, None])) == [[0, None]] * 3
    counts = run_ranks(2, lambda rank: counts_of_ranks(rank, [rank.rank, 2**40]))
    assert counts == [[[0, 2**40], [1, 2**40]]] * 2


def test_sums_are_those_of_one_rank():
    terms = np.random.default_rng(0).standard_normal(11).tolist()
    expected = 0.0
    for term in terms:
        expected += term
    for size in (1, 2, 5):
        edges = np.linspace(0, len(terms), size + 1).astype(int)

        def add(rank, edges=edges):
            return sum_in_order(rank, terms[edges[rank.rank] : edges[rank.rank + 1]])

        assert run_ranks(size, add) == [expected] * size


def test_rows_of_all_ranks_are_put_together():
    whole = Rows(np.arange(12).reshape(4, 3), np.arange(12).reshape(4, 3) + 1)
    edges = [0, 3, 4, 4]

    def give(rank):
        return rows_of_all(rank, whole.part(edges[rank.rank], edges[rank.rank + 1]))

    for found in run_ranks(3, give):
        assert np.array_equal(found.x, whole.x)
        assert np.array_equal(found.y, whole.y)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            [{"version": "1"}, {"version": "1"}, {"version": "2"}],
            r"ranks: expected version to be the same on all, got '1' on rank 0 \(.*\) and '2' on "
            r"rank 2 \(.*\); start all with the same version, configuration and data",
        ),
        (
            [{"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, {"a": {}}],
            r"ranks: expected a\.b\.c to be the same on all, got 1 on rank 0 .* and 2 on rank 1",
        ),
        ([{"a": 1}, {}, {"a": 1}], r"expected a to be the same on all, got 1 on .* and None on"),
    ],
)
def test_ranks_that_are_not_alike_are_refused_by_all(facts, message):
    errors = []

    def check(rank):
        try:
            check_alike(rank, facts[rank.rank])
        except ConfigError as error:
            errors.append(error)

    run_ranks(3, check)
    assert len(errors) == 3
    assert sorted(error.is_told for error in errors) == [False, True, True]
    with pytest.raises(ConfigError, match=message):
        raise errors[0]


def test_alike_ranks_pass():
    run_ranks(3, lambda rank: check_alike(rank, {"a": {"b": [1, None]}, "c": "x"}))
    run_ranks(3, lambda rank: check_weights(rank, np.ones(5, np.float32), 3))


@pytest.mark.parametrize("odd", [[1], [0], [1, 3]])
def test_ranks_with_other_weights_are_named(odd):
    def check(rank):
        check_weights(rank, np.full(5, 1.0 + (rank.rank in odd), np.float32), 300)

    named = ", ".join(rf"{rank} \([^)]*\)" for rank in odd)
    message = rf"step 300: the parameters of rank {named} differ from those of the others"
    with pytest.raises(RanksError, match=message):
        run_ranks(5, check)
