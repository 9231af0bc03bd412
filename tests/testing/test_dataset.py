"""The check of datasets: a right one passes, and each wrong one fails by its own property."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from tisslm.contracts import Dataset
from tisslm.testing import check_dataset


class Right(Dataset):
    """Numbers that count up."""

    def __init__(self, *, seq_len, vocab_size=30, n_windows=11):
        self.seq_len, self.vocab_size, self.n_windows = seq_len, vocab_size, n_windows

    def __len__(self):
        return self.n_windows

    def window(self, i):
        tokens = np.arange(i, i + self.seq_len + 1, dtype=np.int32) % self.vocab_size
        return tokens[:-1], tokens[1:]

    def order(self, seed, epoch):
        return np.random.default_rng((seed, epoch)).permutation(len(self))


class Masked(Right):
    """Half of the targets are none, which is allowed."""

    def window(self, i):
        x, y = super().window(i)
        return x, np.where(y % 2, -100, y).astype(np.int32)


class DrawsWithRepeats(Right):
    def order(self, seed, epoch):
        return np.random.default_rng((seed, epoch)).integers(0, len(self), len(self))


class ShufflesEachTime(Right):
    rng = np.random.default_rng(0)

    def order(self, seed, epoch):
        return self.rng.permutation(len(self))


class ShortOrder(Right):
    def order(self, seed, epoch):
        return super().order(seed, epoch)[:-1]


class PredictsTheInput(Right):
    def window(self, i):
        x, _ = super().window(i)
        return x, x


class LongIds(Right):
    def window(self, i):
        return tuple(part.astype(np.int64) for part in super().window(i))


class BeyondTheVocabulary(Right):
    def window(self, i):
        tokens = np.arange(i, i + self.seq_len + 1, dtype=np.int32) % (self.vocab_size + 1)
        return tokens[:-1] + 17, tokens[1:] + 17


class DropsTheLast(Right):
    def batches(self, batch_size, seed, start=0):
        for x, y in super().batches(batch_size, seed, start):
            if len(x) == batch_size:
                yield x, y


class IgnoresTheStart(Right):
    def batches(self, batch_size, seed, start=0):
        return super().batches(batch_size, seed)


class StopsAfterAnEpoch(Right):
    def batches(self, batch_size, seed, start=0):
        yield from islice(super().batches(batch_size, seed, start), -(-len(self) // batch_size))


class RemembersItsPlace(Right):
    place = 0

    def batches(self, batch_size, seed, start=0):
        self.place += 1
        return super().batches(batch_size, seed + self.place, start)


class RepeatsTheEpoch(Right):
    def __iter__(self):
        stream = self.batches(self.batch_size, self.seed)
        return islice(stream, -(-len(self) // self.batch_size))


class FillsOnePair(Right):
    def stream(self, batch_size, seed, start=0):
        x, y = np.empty((2, batch_size, self.seq_len), np.int32)
        for new_x, new_y in super().stream(batch_size, seed, start):
            x[: len(new_x)], y[: len(new_y)] = new_x, new_y
            yield x[: len(new_x)], y[: len(new_y)]


class StreamsFromTheStart(Right):
    def stream(self, batch_size, seed, start=0):
        return super().stream(batch_size, seed)


WRONG = [
    (DrawsWithRepeats, "order is a permutation"),
    (ShufflesEachTime, "order is a permutation"),
    (ShortOrder, "order is a permutation"),
    (PredictsTheInput, "targets are the inputs shifted by one"),
    (LongIds, "targets are the inputs shifted by one"),
    (BeyondTheVocabulary, "targets are the inputs shifted by one"),
    (DropsTheLast, "batches follow the order and keep the last"),
    (IgnoresTheStart, "any batch can be the first"),
    (StopsAfterAnEpoch, "batches follow the order and keep the last"),
    (RemembersItsPlace, "batches follow the order and keep the last"),
    (RepeatsTheEpoch, "iterating gives an epoch then the next"),
    (FillsOnePair, "a streamed batch is good until the next but one"),
    (StreamsFromTheStart, "a streamed batch is good until the next but one"),
]


@pytest.mark.parametrize("right", [Right, Masked])
@pytest.mark.parametrize("n_windows", [1, 2, 3, 6, 11, 12, 100, 30_000])
def test_a_right_dataset_of_any_length_passes(right, n_windows):
    options = {"seq_len": 4, "n_windows": n_windows}
    assert check_dataset(right, options=options).n_assertions > 30


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_dataset_fails_by_its_property(refuses, wrong, prop):
    refuses(check_dataset, wrong, prop)
