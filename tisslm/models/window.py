"""What attention's kernels are told of each query: the first key that it sees, and where they end.

What does not live here: which layers have a sliding window, and documents, which are checked by
``checks``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import ConfigError, ShapeError

__all__ = ["fill_stops", "fill_window", "twice_keys_seen"]

Array = NDArray[Any]


def fill_window(see_BT: Array, start_BT: Array | None, window: int) -> None:
    """Write the first key that each query sees, ``max(start, t - W + 1, 0)``, and allocate nothing.

    Attention takes it in place of ``start_BT``: query t sees W keys at most, its own among them,
    and none of an earlier document. It does not decrease along a row, since neither of the two
    does.

    Parameters
    ----------
    see_BT : ndarray of int32 of shape (B, T)
        Overwritten; not ``start_BT`` itself.
    start_BT : ndarray of int32 of shape (B, T), optional
        Where the document of each token begins; None: a row is one document.
    window : int
        W, from 1 on; from T on, there is no sliding window.

    Raises
    ------
    ConfigError
        If the window has no key.
    ShapeError
        If the two arrays are of different shapes.

    References
    ----------
    Beltagy et al., "Longformer", arXiv 2004.05150.
    """
    if window < 1:
        raise ConfigError(
            f"sliding window: expected at least 1 key, the token itself, got {window}. Take a "
            "larger one, or none"
        )
    if start_BT is not None and start_BT.shape != see_BT.shape:
        raise ShapeError(
            f"sliding window: expected starts of shape {see_BT.shape}, got {start_BT.shape}. Give "
            "the starts of the same batch"
        )
    row = see_BT[0]
    row.fill(1)
    np.add.accumulate(row, out=row)  # t + 1
    np.subtract(row, min(window, len(row)), out=row)
    np.maximum(row, 0, out=row)
    see_BT[1:] = row
    if start_BT is not None:
        np.maximum(see_BT, start_BT, out=see_BT)


def fill_stops(stop_BT: Array, start_BT: Array | None) -> None:
    """Write where the document of each token ends, exclusive, given where it begins.

    Parameters
    ----------
    stop_BT : ndarray of int32 of shape (B, T)
        Overwritten; not ``start_BT`` itself.
    start_BT : ndarray of int32 of shape (B, T), optional
        Checked by ``checks``; None: a row is one document.
    """
    time = stop_BT.shape[1]
    stop_BT.fill(time)
    if start_BT is None:
        return
    following = np.arange(1, time, dtype=np.int32)  # t + 1, where the next document may begin
    np.copyto(stop_BT[:, :-1], following, where=start_BT[:, 1:] == following)
    backwards = stop_BT[:, ::-1]
    np.minimum.accumulate(backwards, axis=1, out=backwards)


def twice_keys_seen(time: int, window: int = 0, causal: bool = True) -> int:
    """Return twice the keys that a token of a row of T sees in the mean, rounded.

    Half of the T keys without a window, as is customary, and not (T + 1) / 2; with a window of
    W < T, W - W^2 / 2T. Both ways, all T.

    Parameters
    ----------
    time : int
        T.
    window : int
        W; 0 for none.
    causal : bool
        Whether later keys are not seen.
    """
    if not causal:
        return 2 * time
    if not 0 < window < time:
        return time
    return round(window * (2 * time - window) / time)
