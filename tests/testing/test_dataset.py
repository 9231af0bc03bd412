"""The check of datasets: a right one passes, and each wrong one fails by its own property."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from tisslm.contracts import Dataset, Rows
from tisslm.testing import check_dataset


class Right(Dataset):
    """Numbers that count up."""

    def __init__(self, *, seq_len, vocab_size=30, n_windows=11):
        self.seq_len, self.vocab_size, self.n_windows = seq_len, vocab_size, n_windows

    def __len__(self):
        return self.n_windows

    def window(self, i):
        tokens = np.arange(i, i + self.seq_len + 1, dtype=np.int32) % self.vocab_size
        return Rows(tokens[:-1], tokens[1:])

    def order(self, seed, epoch):
        return np.random.default_rng((seed, epoch)).permutation(len(self))


class Masked(Right):
    """Half of the targets are none, which is allowed."""

    def window(self, i):
        x, y = super().window(i)
        return Rows(x, np.where(y % 2, -100, y).astype(np.int32))


class Documents(Right):
    """Documents of three tokens side by side; the third array says where each begins."""

    def window(self, i):
        x, y = super().window(i)
        start = (np.arange(self.seq_len, dtype=np.int32) // 3) * 3
        y = y.copy()
        y[2::3] = -100
        return Rows(x, y, start.astype(np.int32))


class TargetsOfTheirOwn(Documents):
    """Each document has one more token than it has inputs."""

    def window(self, i):
        x, y, start = super().window(i)
        y[2::3] = (x[2::3] + 7) % self.vocab_size
        return Rows(x, y, start)


class Padded(Right):
    """A document and its last target in each row, then padding."""

    def window(self, i):
        x, y = super().window(i)
        n = 1 + i % self.seq_len
        x, y = x.copy(), y.copy()
        x[n:], y[n:] = 0, -100
        return Rows(x, y)


class Scored(Documents):
    """Each window has a number beside its tokens."""

    def window(self, i):
        return replace(super().window(i), others={"score": np.float64(i)})


class PredictsTheNextDocument(Documents):
    def window(self, i):
        _, y = Right.window(self, i)
        x, _, start = super().window(i)
        return Rows(x, y, start)


class StartsElsewhere(Documents):
    def window(self, i):
        x, y, start = super().window(i)
        return Rows(x, y, np.where(start == 3, 2, start).astype(np.int32))


class GoesBack(Documents):
    def window(self, i):
        x, y, start = super().window(i)
        return Rows(
            x, y, np.where(np.arange(self.seq_len) == self.seq_len - 1, 0, start).astype("i4")
        )


class BeginsLate(Documents):
    def window(self, i):
        x, y, start = super().window(i)
        return Rows(x, y, np.maximum(start, 1))


class LongStarts(Documents):
    def window(self, i):
        x, y, start = super().window(i)
        return Rows(x, y, start.astype(np.int64))


class SometimesStarts(Documents):
    def window(self, i):
        window = super().window(i)
        return replace(window, start=None) if i % 2 else window


class PlainTuples(Documents):
    def window(self, i):
        return tuple(super().window(i))


class TuplesInBatches(Right):
    def batches(self, batch_size, seed, start=0):
        yield from map(tuple, super().batches(batch_size, seed, start))


class TuplesInTheStream(Right):
    def stream(self, batch_size, seed, start=0):
        yield from map(tuple, super().batches(batch_size, seed, start))


class NamedTwice(Right):
    def window(self, i):
        window = super().window(i)
        return replace(window, others={"y": window.y})


class OthersNowAndThen(Right):
    def window(self, i):
        window = super().window(i)
        return replace(window, others={"score": np.float64(i)} if i % 3 else {})


class ForgetsTheOthers(Right):
    def window(self, i):
        return replace(super().window(i), others={"score": np.array([i, i + 0.5])})

    def stream(self, batch_size, seed, start=0):
        for batch in super().batches(batch_size, seed, start):
            yield replace(batch, others={})


class ForgetsTheStarts(Documents):
    def batches(self, batch_size, seed, start=0):
        for x, y, _ in super().batches(batch_size, seed, start):
            yield Rows(x, y)


class StreamsWithoutStarts(Documents):
    def stream(self, batch_size, seed, start=0):
        for x, y, _ in super().batches(batch_size, seed, start):
            yield Rows(x, y)


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
        return Rows(x, x)


class LongIds(Right):
    def window(self, i):
        return Rows(*(part.astype(np.int64) for part in super().window(i)))


class BeyondTheVocabulary(Right):
    def window(self, i):
        tokens = np.arange(i, i + self.seq_len + 1, dtype=np.int32) % (self.vocab_size + 1)
        return Rows(tokens[:-1] + 17, tokens[1:] + 17)


class DropsTheLast(Right):
    def batches(self, batch_size, seed, start=0):
        for x, y in super().batches(batch_size, seed, start):
            if len(x) == batch_size:
                yield Rows(x, y)


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
            yield Rows(x[: len(new_x)], y[: len(new_y)])


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
    (PredictsTheNextDocument, "no token is predicted from another document"),
    (StartsElsewhere, "documents begin where the starts say"),
    (GoesBack, "documents begin where the starts say"),
    (BeginsLate, "documents begin where the starts say"),
    (LongStarts, "targets are the inputs shifted by one"),
    (SometimesStarts, "windows are rows of the same arrays"),
    (PlainTuples, "windows are rows of the same arrays"),
    (NamedTwice, "windows are rows of the same arrays"),
    (OthersNowAndThen, "windows are rows of the same arrays"),
    (TuplesInBatches, "batches follow the order and keep the last"),
    (TuplesInTheStream, "a streamed batch is good until the next but one"),
    (ForgetsTheOthers, "a streamed batch is good until the next but one"),
    (ForgetsTheStarts, "batches follow the order and keep the last"),
    (StreamsWithoutStarts, "a streamed batch is good until the next but one"),
    (DropsTheLast, "batches follow the order and keep the last"),
    (IgnoresTheStart, "any batch can be the first"),
    (StopsAfterAnEpoch, "batches follow the order and keep the last"),
    (RemembersItsPlace, "batches follow the order and keep the last"),
    (RepeatsTheEpoch, "iterating gives an epoch then the next"),
    (FillsOnePair, "a streamed batch is good until the next but one"),
    (StreamsFromTheStart, "a streamed batch is good until the next but one"),
]


@pytest.mark.parametrize("right", [Right, Masked, Documents, Padded, TargetsOfTheirOwn, Scored])
@pytest.mark.parametrize("n_windows", [1, 2, 3, 6, 11, 12, 100, 30_000])
def test_a_right_dataset_of_any_length_passes(right, n_windows):
    options = {"seq_len": 4, "n_windows": n_windows}
    assert check_dataset(right, options=options).n_assertions > 30


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_dataset_fails_by_its_property(refuses, wrong, prop):
    refuses(check_dataset, wrong, prop)


def test_options_may_be_made_in_a_folder(refuses):
    class OfAFile(Right):
        def __init__(self, *, path):
            super().__init__(seq_len=4, n_windows=len(path.read_text()))

        @staticmethod
        def test_options(folder):
            folder.joinpath("short").write_text("abc")
            folder.joinpath("empty").write_text("")
            return [{"path": folder / "short"}, {"path": folder / "empty"}]

    refuses(check_dataset, OfAFile, "has windows of one length")
