"""Windows of attention: the first position that each token sees, and how many that makes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill_window", "twice_keys_seen"]

Array = NDArray[Any]


def fill_window(first_BT: Array, start_BT: Array | None, window: int) -> None:
    time = np.arange(first_BT.shape[1], dtype=np.int32)
    np.maximum(time - window + 1, 0 if start_BT is None else start_BT, out=first_BT)


def twice_keys_seen(time: int, window: int = 0) -> int:
    """Return twice the keys that a token of a row of T sees in the mean, rounded.

    Half of the T keys without a window, as is customary, and not (T + 1) / 2; with a window of
    W < T, W - W^2 / 2T.

    Parameters
    ----------
    time : int
        T.
    window : int
        W; 0 for none.
    """
    if not 0 < window < time:
        return time
    return round(window * (2 * time - window) / time)
