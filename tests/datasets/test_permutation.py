"""A keyed permutation is a bijection, a pure function of its key, and evenly spread."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.datasets import KeyedPermutation
from tisslm.errors import ConfigError

seeds = st.integers(min_value=-(2**70), max_value=2**70)
epochs = st.integers(min_value=0, max_value=2**40)
N_ORDERS = 20  # orders drawn per possible order, enough for a chi-squared test


@given(n=st.integers(1, 600), seed=seeds, epoch=epochs)
def test_every_index_appears_exactly_once(n: int, seed: int, epoch: int) -> None:
    assert sorted(KeyedPermutation(n, seed, epoch)) == list(range(n))


def test_every_small_length_is_a_bijection() -> None:
    for n in range(1, 200):
        values = KeyedPermutation(n, seed=3, epoch=1).take(0, n)
        assert np.array_equal(np.sort(values), np.arange(n)), n


@given(n=st.integers(1, 2**62), seed=seeds, epoch=epochs, data=st.data())
def test_single_entries_slices_and_take_agree(
    n: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    order = KeyedPermutation(n, seed, epoch)
    start = data.draw(st.integers(0, n - 1))
    stop = min(n, start + 17)
    values = order.take(start, stop)
    assert values.dtype == np.int64
    assert values.tolist() == order[start:stop] == [order[i] for i in range(start, stop)]
    assert all(0 <= value < n for value in values)
    assert order[start - n] == order[start]


def test_the_order_is_the_same_in_every_version() -> None:
    # A resumed run must go on in the order that it began with.
    assert KeyedPermutation(10, 0, 0)[:] == [4, 6, 9, 5, 8, 2, 3, 0, 1, 7]
    assert KeyedPermutation(7, 42, 3)[:] == [3, 6, 4, 2, 5, 1, 0]
    far = KeyedPermutation(2**40 + 3, 1, 0)
    assert far[:3] == [1047305955947, 190679381595, 72911735958]


def test_seeds_and_epochs_and_lengths_give_other_orders() -> None:
    keys = [(1000, 1, 0), (1000, 1, 1), (1000, 2, 0), (1000, 0, 1), (1000, -1, 0)]
    orders = [KeyedPermutation(*key)[:] for key in keys]
    orders.append([i for i in KeyedPermutation(1001, 1, 0) if i < 1000])
    for i, one in enumerate(orders):
        for other in orders[:i]:
            same = sum(a == b for a, b in zip(one, other, strict=True))
            assert same < 10  # two random orders agree in one place on average


@pytest.mark.parametrize("n", [3, 4, 5])
def test_all_orders_of_few_are_about_equally_frequent(n: int) -> None:
    drawn = N_ORDERS * factorial(n)
    counts = Counter(tuple(KeyedPermutation(n, seed, 0)) for seed in range(drawn))
    orders = list(permutations(range(n)))
    statistic = sum((counts[order] - N_ORDERS) ** 2 / N_ORDERS for order in orders)
    freedom = len(orders) - 1
    # Mean and variance of chi-squared; 4 deviations of a fixed draw that is about 0.5 from it.
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


def test_every_place_gets_every_value_about_equally_often() -> None:
    n, drawn = 25, 1000
    counts = np.zeros((n, n))
    steps = np.zeros(n)
    for epoch in range(drawn):
        values = KeyedPermutation(n, 5, epoch).take(0, n)
        counts[np.arange(n), values] += 1
        steps += np.bincount(np.diff(values) % n, minlength=n)
    expected = drawn / n
    freedom = (n - 1) ** 2
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)
    # Nor is the way from one value to the next a favourite one: each of n - 1 is as likely.
    assert steps[0] == 0
    statistic = float(((steps[1:] - drawn) ** 2 / drawn).sum())
    assert statistic < (n - 2) + 4 * np.sqrt(2 * (n - 2))


def test_memory_and_seek_do_not_grow_with_the_length() -> None:
    tracemalloc.start()
    order = KeyedPermutation(2**62, 0, 0)
    assert len(order) == 2**62 <= sys.maxsize
    order[2**62 - 1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_an_index_out_of_range_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        KeyedPermutation(5, 0, 0)[5]


@pytest.mark.parametrize("n", [0, -1, 2**62 + 1])
def test_a_length_out_of_bounds_is_refused(n: int) -> None:
    with pytest.raises(ConfigError) as caught:
        KeyedPermutation(n, 0, 0)
    assert str(caught.value) == f"permutation: expected a length between 1 and 2**62, got {n}"
