"""What a call has worked on is known when its step is over, whatever its arrays hold by then."""

from __future__ import annotations

import numpy as np

from tisslm.ops import cost
from tisslm.tracking.profiling.recorder import Recorder


class NoRegions:
    """Of threads that record nothing."""

    def take(self):
        return b""

    def shares(self, taken):
        return ()


def test_work_is_counted_by_the_starts_of_its_own_batch():
    start = np.maximum(np.arange(8) - 2, 0).astype(np.int32)[None]
    qkv, out, lse = np.zeros((1, 8, 12)), np.zeros((1, 8, 4)), np.zeros((1, 2, 8))
    call = (qkv, out, lse, 2, 2, 1.0, 0.0, 0, 0, 0, 0, start, None)
    expected = cost.flops("attention_forward", cost.named("attention_forward", call))
    recorder = Recorder(NoRegions())
    recorder.begin()
    recorder.before("attention_forward", call)
    recorder.after("attention_forward", call)
    start[...] = 0  # the next batch has one document per row
    (recorded,) = recorder.end(1).calls
    assert recorded.flops == expected
    assert expected < cost.flops("attention_forward", cost.named("attention_forward", call))
