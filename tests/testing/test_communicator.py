"""The check of communicators: right ones pass, and each wrong one fails by its own property."""

from __future__ import annotations

import pytest

from tisslm.testing import check_communicator
from tisslm.training.ranks.local import LocalCommunicator


class Pretends(LocalCommunicator):
    """Rank 0 of two, both of which do the same: what a sum over two ranks looks like from 0."""

    size = 2

    def sum_scalars(self, values):
        # the check gives each rank its own rank once: 0 + 1
        return [1.0] if list(values) == [0.0] else [2 * value for value in values]

    def sum_gradients(self, flat_P):
        other = flat_P + 1 if float(flat_P[0]) == 0.0 else flat_P
        flat_P += other


class Averages(LocalCommunicator):
    def sum_gradients(self, flat_P):
        flat_P /= 2


class CountsFromOne(LocalCommunicator):
    rank = 1


class LosesBits(LocalCommunicator):
    def sum_scalars(self, values):
        return [round(value, 9) for value in values]


class SumsInPlace(LocalCommunicator):
    def sum_scalars(self, values):
        values[0] = 7.0
        return super().sum_scalars([1.0, *values[1:]])


class BroadcastsZeros(LocalCommunicator):
    def broadcast(self, flat):
        flat[...] = 0


class Drifts(LocalCommunicator):
    calls = 0

    def sum_gradients(self, flat_P):
        self.calls += 1
        if len(flat_P) == 777 and self.calls % 2:
            flat_P += 1e-6


class NeedsMpi(LocalCommunicator):
    def barrier(self):
        raise RuntimeError("no MPI")


WRONG = [
    (Averages, "sums of gradients are exact"),
    (CountsFromOne, "has a rank among its ranks"),
    (LosesBits, "sums of scalars are exact"),
    (SumsInPlace, "sums of scalars are exact"),
    (BroadcastsZeros, "broadcast gives rank 0s values"),
    (Drifts, "repeated sums have the same bits"),
    (NeedsMpi, "has a rank among its ranks"),
]


@pytest.mark.parametrize("right", [LocalCommunicator, Pretends])
def test_right_communicators_pass(right):
    assert check_communicator(right).n_assertions > 15


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_communicator_fails_by_its_property(refuses, wrong, prop):
    refuses(check_communicator, wrong, prop)
