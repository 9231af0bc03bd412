"""LocalCommunicator: what a rank alone sends comes back to it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tisslm.training.ranks.communicators.local import LocalCommunicator


def test_it_is_the_only_rank() -> None:
    alone = LocalCommunicator()
    assert (alone.rank, alone.size) == (0, 1)
    assert (alone.channel().rank, alone.channel().size) == (0, 1)
    alone.barrier()


@given(st.lists(st.floats()), st.binary())
def test_what_is_sent_comes_back(values: list[float], data: bytes) -> None:
    alone = LocalCommunicator()
    assert alone.all_gather(data) == [data]
    array, received = np.array(values), np.zeros(len(values))
    alone.exchange([array], [received])
    assert received.tobytes() == array.tobytes()
    received[:] = 0
    alone.share(array, [received])
    assert received.tobytes() == array.tobytes()


def test_read_only_arrays_are_not_touched() -> None:
    array = np.ones(3, dtype=np.float32)
    array.setflags(write=False)
    LocalCommunicator().broadcast(array)
