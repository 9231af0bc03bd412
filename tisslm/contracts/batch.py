"""The records that parts exchange, and the two functions every path must share.

What does not live here: interfaces; they are in ``contracts``, which passes these names on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tisslm.config.metric_types import Metric
from tisslm.errors import DataError

__all__ = [
    "IGNORE_INDEX",
    "Batch",
    "Buffer",
    "PassContext",
    "RunInfo",
    "check_targets",
    "chunk_rows",
    "target_weights",
]

#: The target that means "no target here"; the same number as in PyTorch and Hugging Face.
IGNORE_INDEX = -100

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


def chunk_rows(vocab_size: int) -> int:
    """Rows of logits that output projection and loss handle at once, a function of V alone.

    The power of two nearest to 64 MiB of float32 logits, between 128 and 2048. Because it
    depends on nothing else, a custom loop and ``Trainer.train`` add in the same order.
    """
    rows = 64 * 2**20 / (4 * vocab_size)
    return int(min(2048, max(128, 2 ** round(np.log2(rows)))))


@dataclass(frozen=True)
class Buffer:
    """One array that a layer wants to exist before the first step.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
        NumPy name of the element type.
    kind : {"saved", "scratch"}
        ``saved`` lives from the layer's forward to its backward; ``scratch`` is shared by
        all layers and holds nothing between two calls.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: Literal["saved", "scratch"]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class PassContext:
    """What a layer knows about the pass it is part of.

    Attributes
    ----------
    batch, time : int
        B and T of this pass.
    train : bool
        Whether dropout is applied.
    seed, update, first_row : int
        The key of every random draw, together with a site and an element index: the run's
        seed, the number of optimizer updates made so far, and the index of the pass's first
        row within the whole update (so micro-batches draw what one large batch would).
    start_BT : ndarray of int32 of shape (B, T), optional
        Position within the row where the document of each token begins: token t attends to
        start[t] to t and has position t - start[t]. None: a row is one document.
    window_BT : ndarray of int32 of shape (B, T), optional
        The first position that each token sees in layers with a window of attention; None in a
        model without one.
    stop_BT : ndarray of int32 of shape (B, T), optional
        Position within the row where the document of each token ends, exclusive: in layers that
        are not causal, token t attends to start[t] to stop[t] - 1. None where all layers are.
    computed : int, optional
        How many rows of the stream are computed: the last ones of B T may be padding that nobody
        reads, and are then left out. None: all.
    """

    batch: int
    time: int
    train: bool
    seed: int
    update: int
    first_row: int
    start_BT: IntArray | None = field(default=None, compare=False)  # noqa: N815
    window_BT: IntArray | None = field(default=None, compare=False)  # noqa: N815
    stop_BT: IntArray | None = field(default=None, compare=False)  # noqa: N815
    computed: int | None = None

    @property
    def rows(self) -> int:
        """N, the rows of the stream that layers get."""
        return self.batch * self.time if self.computed is None else self.computed


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one pass gets: token ids and targets of some rows, with what each target counts.

    Datasets give ``tisslm.contracts.Rows``; ``Rows.weighed`` makes a batch of them.

    Attributes
    ----------
    x_BT, y_BT : ndarray of shape (B, T), integer
        Inputs and targets; a target of -100 is none.
    weights_BT : ndarray of shape (B, T), float
        What each target counts in the mean over the whole accumulation window; 0 where there
        is no target.
    start_BT : ndarray of shape (B, T), integer, optional
        Position within the row where the document of each token begins. None: a row is one
        document.
    others : mapping of str to ndarray
        What the dataset gives beside these, by name; the first axis counts the rows.
    """

    x_BT: IntArray  # noqa: N815
    y_BT: IntArray  # noqa: N815
    weights_BT: FloatArray  # noqa: N815
    start_BT: IntArray | None = None  # noqa: N815
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunInfo:
    """What a sink is told about the run when it is opened.

    Attributes
    ----------
    directory : Path
        The run directory; it exists.
    name : str
    config : mapping
        The resolved configuration, nested tables of plain values.
    rank : int
        This process among those of the run.
    resumed_step : int
        0 for a new run, otherwise the step that the run goes on from.
    begun : bool
        Whether this very run was begun here before and killed before its first checkpoint: what
        it has written will be written again.
    max_steps : int
        The step at which the run ends.
    parameters : int
        Number of trainable parameters.
    declared : sequence of Metric
        What the parts of the run say of metrics of their own.
    """

    directory: Path
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    rank: int = 0
    resumed_step: int = 0
    max_steps: int = 0
    parameters: int = 0
    begun: bool = False
    declared: Sequence[Metric] = ()

    @property
    def goes_on(self) -> bool:
        """Whether what is here up to ``resumed_step`` is this run's, and the rest to be dropped."""
        return self.resumed_step > 0 or self.begun


def check_targets(targets: IntArray) -> None:
    """Raise DataError unless targets are integers that fit the kernels' int32."""
    if targets.dtype.kind not in "iu":
        raise DataError(f"targets: expected integer token ids, got {targets.dtype}")
    if targets.dtype.itemsize >= 4 and targets.size:
        low, high = int(targets.min()), int(targets.max())
        if low < -(2**31) or high >= 2**31:
            bad = low if low < -(2**31) else high
            raise DataError(f"targets: expected -100 or ids of the vocabulary, got {bad}")


def target_weights(targets: IntArray, dtype: Any, count: int | None = None) -> FloatArray:
    """Weight each real target by 1 / (number of real targets); -100 gets 0.

    Parameters
    ----------
    targets : integer ndarray
    dtype : dtype of the result
    count : int, optional
        The number of targets of the whole accumulation window, when ``targets`` is a part.
    """
    real = targets != IGNORE_INDEX
    n = int(real.sum()) if count is None else count
    weights: FloatArray = real.astype(dtype) * np.asarray(1.0 / max(n, 1), dtype=dtype)
    return weights
