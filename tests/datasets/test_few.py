"""A few windows of a dataset, in the same order in every epoch."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from tisslm.contracts import Dataset
from tisslm.datasets import TokenDataset
from tisslm.datasets.few import FewWindows
from tisslm.errors import DataError


@pytest.fixture
def whole():
    return TokenDataset(np.arange(101), 10, vocab_size=200)


def test_windows_are_those_of_the_whole_by_their_numbers(whole):
    few = FewWindows(whole, [7, 0, 3])
    assert len(few) == 3
    assert (few.seq_len, few.vocab_size, few.nbytes) == (10, 200, whole.nbytes)
    for i, number in enumerate([7, 0, 3]):
        for ours, theirs in zip(few.window(i), whole.window(number), strict=True):
            assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("number", [-1, 3])
def test_there_are_no_others(whole, number):
    with pytest.raises(DataError) as caught:
        FewWindows(whole, [7, 0, 3]).window(number)
    assert str(caught.value) == f"dataset: expected a window number in range(3), got {number}"


def test_every_epoch_has_the_same_batches(whole):
    few = FewWindows(whole, [7, 0, 3])
    firsts = [x[:, 0].tolist() for x, _ in islice(few.batches(2, seed=5), 6)]
    assert firsts == [[70, 0], [30]] * 3
    later = [x[:, 0].tolist() for x, _ in islice(few.batches(2, seed=5, start=3), 2)]
    assert later == [[30], [70, 0]]


def test_another_choice_has_another_fingerprint(whole):
    assert FewWindows(whole, [7, 0]).fingerprint() == FewWindows(whole, [7, 0]).fingerprint()
    assert FewWindows(whole, [7, 0]).fingerprint() != FewWindows(whole, [0, 7]).fingerprint()


def test_the_whole_keeps_its_memory():
    class Remembers(TokenDataset):
        seen = 0

        def state(self):
            return {"seen": self.seen}

        def load_state(self, state):
            self.seen = state["seen"]

    dataset = Remembers(np.arange(101), 10)
    dataset.seen = 5
    few: Dataset = FewWindows(dataset, [1])
    assert few.state() == {"seen": 5}
    few.load_state({"seen": 9})
    assert dataset.seen == 9
