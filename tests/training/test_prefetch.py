"""Batches made ahead are the dataset's, in its order, with its errors in their places."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm import TokenDataset
from tisslm.errors import DataError
from tisslm.training.batches import Prefetch


def threads_of_ours():
    return [t for t in threading.enumerate() if t.name == "tisslm-prefetch"]


def numbers(count, rows=lambda i: 2, dtype=np.int32):
    for i in range(count):
        x = np.full((rows(i), 3), i, dtype=dtype)
        yield x, x + 1


@given(st.lists(st.integers(1, 5), max_size=8), st.sampled_from([np.int32, np.int64, np.uint16]))
def test_batches_come_in_order_with_their_shapes_and_types(sizes, dtype):
    def given_batches():
        return numbers(len(sizes), sizes.__getitem__, dtype)

    with Prefetch(given_batches()) as batches:
        for x, y in given_batches():
            got_x, got_y = next(batches)
            assert got_x.dtype == got_y.dtype == dtype
            assert np.array_equal(got_x, x)
            assert np.array_equal(got_y, y)
            assert got_x.flags.c_contiguous
        with pytest.raises(StopIteration):
            next(batches)


def test_a_batch_of_a_stream_is_good_until_the_next(tokens):
    dataset = TokenDataset(tokens, 16, vocab_size=17)  # 43 windows: the last batch of 11 has 3
    expected = dataset.batches(4, seed=1)
    with Prefetch(dataset.stream(4, seed=1)) as batches:
        places = set()
        for _ in range(25):
            x, y = next(batches)
            batches.settle()  # the batch after it is made by now
            own_x, own_y = next(expected)
            assert np.array_equal(x, own_x)
            assert np.array_equal(y, own_y)
            places.add(x.ctypes.data)
    assert len(places) == 2  # nothing was copied


def test_the_next_batch_is_made_while_this_one_is_used():
    made = threading.Event()

    def watched():
        for i, batch in enumerate(numbers(2)):
            if i == 1:
                made.set()
            yield batch

    with Prefetch(watched()) as batches:
        next(batches)
        assert made.wait(60)


def test_an_error_is_raised_by_the_next_that_meets_it_and_not_before():
    def failing():
        yield from numbers(2)
        raise DataError("corpus.txt: gone")

    with Prefetch(failing()) as batches:
        for i in range(2):
            x, _ = next(batches)
            batches.settle()
            assert (x == i).all()
        for _ in range(2):
            with pytest.raises(DataError, match=r"corpus.txt: gone"):
                next(batches)
    assert not threads_of_ours()


def test_nothing_touches_the_dataset_after_settle():
    calls = []

    def watched():
        for i, batch in enumerate(numbers(9)):
            calls.append(i)
            time.sleep(0.01)
            yield batch

    with Prefetch(watched()) as batches:
        next(batches)
        batches.settle()
        assert calls == [0, 1]
        time.sleep(0.05)
        assert calls == [0, 1]


def test_closing_ends_the_thread_and_the_generator():
    ended = []

    def watched():
        try:
            yield from numbers(9)
        finally:
            ended.append(threading.current_thread().name)

    batches = Prefetch(watched())
    next(batches)
    batches.close()
    assert ended == ["tisslm-prefetch"]
    assert not threads_of_ours()
    with pytest.raises(StopIteration):
        next(batches)
    batches.close()


def test_a_run_leaves_no_thread_whether_it_ends_or_fails(make_trainer, tokens):
    make_trainer().train()
    assert not threads_of_ours()

    class Short(TokenDataset):
        """Has no third batch."""

        def batches(self, *args, **options):
            source = super().batches(*args, **options)
            yield next(source)
            yield next(source)
            raise DataError("the disk is gone")

    trainer = make_trainer(folder="short", parts={"dataset": Short(tokens, 16, vocab_size=17)})
    with pytest.raises(DataError, match="the disk is gone"):
        trainer.train()
    assert trainer.current_step == 2
    assert not threads_of_ours()


def test_a_dataset_is_never_read_by_two_threads_at_once(make_trainer, tokens):
    class Watchful(TokenDataset):
        """Notices when it is read while it is being read."""

        busy = False
        met = False

        def window(self, i):
            self.met, self.busy = self.met or self.busy, True
            time.sleep(0.0005)
            self.busy = False
            return super().window(i)

        def batches(self, batch_size, seed, start=0):
            for batch in super().batches(batch_size, seed, start):
                for i in range(5):
                    self.window(i)
                yield batch

    dataset = Watchful(tokens, 16, vocab_size=17)
    trainer = make_trainer(
        validation_frequency=1, save_every=1, parts={"dataset": dataset, "val_dataset": dataset}
    )
    trainer.train()
    assert not dataset.met
