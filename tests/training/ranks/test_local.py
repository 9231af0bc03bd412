"""LocalCommunicator: alone, every sum is its only term."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tisslm.training.ranks.local import LocalCommunicator


def test_it_is_the_only_rank() -> None:
    alone = LocalCommunicator()
    assert (alone.rank, alone.size) == (0, 1)
    alone.barrier()


@given(st.lists(st.floats()))
def test_sums_have_the_bits_of_their_term(values: list[float]) -> None:
    alone = LocalCommunicator()
    total = alone.sum_scalars(values)
    assert total is not values
    assert np.array(total).tobytes() == np.array(values).tobytes()
    array = np.array(values)
    alone.sum_gradients(array)
    alone.broadcast(array)
    assert array.tobytes() == np.array(values).tobytes()


def test_read_only_arrays_are_not_touched() -> None:
    array = np.ones(3, dtype=np.float32)
    array.setflags(write=False)
    LocalCommunicator().sum_gradients(array)
    LocalCommunicator().broadcast(array)
