"""The losses of a run: a list to look at, eight bytes each, and no growth while they fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.training.state import LEAST, LossHistory

LOSSES = st.lists(st.floats(allow_nan=False, width=64), max_size=40)


@given(LOSSES, LOSSES, st.slices(50))
def test_it_reads_like_a_list(first, more, part):
    history, expected = LossHistory(first), [*first, *more]
    for loss in more:
        history.append(loss)
    assert history == expected
    assert history[part] == expected[part]
    assert (len(history), list(history), repr(history)) == (len(expected), expected, repr(expected))
    assert history == LossHistory(np.array(expected))
    assert history != [*expected, 0.0]
    assert all(type(loss) is float for loss in history)


def test_beyond_its_ends_is_an_error():
    with pytest.raises(IndexError):
        LossHistory([1.0])[1]
    assert LossHistory([1.0, 2.0])[-1] == 2.0
    assert LossHistory() != "losses"


def test_it_takes_its_memory_before_the_first_loss():
    history = LossHistory([3.0], room=5000)
    memory = history.as_array().__array_interface__["data"]
    for step in range(4999):
        history.append(step)
    assert history.as_array().__array_interface__["data"] == memory
    history.append(7.0)
    assert (len(history), history[0], history[-1]) == (5001, 3.0, 7.0)


def test_a_run_without_an_end_takes_little():
    assert LossHistory(room=10**15)._losses.nbytes == 8 * 2**20
    assert len(LossHistory()._losses) == LEAST
