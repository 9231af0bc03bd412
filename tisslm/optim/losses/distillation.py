"""Distillation: targets that a larger model, the teacher, gives more than one token of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import IGNORE_INDEX, Batch, Loss, Model, chunk_rows
from tisslm.contracts.options import number
from tisslm.errors import ConfigError, ShapeError
from tisslm.optim.losses._rows import RowLosses

__all__ = ["Distillation"]

Array = NDArray[Any]
Write = Callable[[slice, Array], None]

_WHERE = "loss distillation"


class _Fixed:
    """A teacher that says the same of every row: what the checks of a tile are made with."""

    seq_len, vocab_size = 2**31, 0

    def write(self, rows: slice, out_NV: Array) -> None:
        """Write logits that differ from token to token."""
        out_NV[...] = np.cos(np.arange(out_NV.shape[1]))

    def read_logits(self, x: Array, start: Array | None = None) -> Write:
        """Return what writes them."""
        return self.write


@final
class Distillation(Loss):
    """``loss = w ((1 - alpha) CE(z, t) + alpha T^2 KL(p || q))``, in nats.

    z are the logits, t the target, ``p = softmax(y / T)`` with the teacher's logits y, and
    ``q = softmax(z / T)``; so ``dz = w ((1 - alpha) (softmax(z) - [j = t]) + alpha T (q - p))``.
    All are zero where the target is -100. The teacher is run, without dropout or gradient, on the
    rows of each pass before its tiles; its logits are made tile by tile.

    Parameters
    ----------
    teacher : Model
        Of the same vocabulary. In a configuration, the path of one.
    temperature : float
        T, above 0: the larger, the more the less probable tokens count.
    alpha : float
        The teacher's share of the loss, in (0, 1].

    Raises
    ------
    ConfigError
        If an option is out of range, or the teacher is no language model.

    References
    ----------
    Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.
    """

    has_perplexity: ClassVar[bool] = False  # how far the teacher is, says nothing of the targets
    #: Sets of options that the checks build it with.
    test_options: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"teacher": _Fixed()},
        {"teacher": _Fixed(), "temperature": 2.5, "alpha": 1.0},
    )

    def __init__(self, *, teacher: Any, temperature: float = 1.0, alpha: float = 0.5) -> None:
        if not isinstance(teacher, Model | _Fixed):
            raise ConfigError(
                f"{_WHERE}: teacher: expected a language model, got {teacher!r:.200}; give a Model "
                "in Python, and its path in a configuration"
            )
        self._teacher: Model | _Fixed = teacher
        self.temperature = number(f"{_WHERE}: temperature", temperature, 1e-3)
        self.alpha = number(f"{_WHERE}: alpha", alpha, 0.0)
        if not 0.0 < self.alpha <= 1.0:
            raise ConfigError(f"{_WHERE}: alpha: expected a number in (0, 1], got {alpha!r}")
        self._losses = RowLosses(_WHERE)
        self._write: Write | None = teacher.write if isinstance(teacher, _Fixed) else None
        self._next = 0
        self._tiles: Array = np.empty((2, 0, 0))

    @staticmethod
    def planned(vocab_size: int, rows: int, itemsize: int = 4) -> int:
        """Return the bytes of the tiles that it keeps, for passes of so many rows."""
        return 2 * min(rows, chunk_rows(vocab_size)) * vocab_size * itemsize

    @cached_property
    def _digest(self) -> str:
        """SHA-256 of the teacher's weights, "" of one that has none."""
        if isinstance(self._teacher, _Fixed):
            return ""
        return hashlib.sha256(self._teacher.parameters.data.view(np.uint8).data).hexdigest()

    def state(self) -> dict[str, Any]:
        """Return which teacher it is: a checkpoint has the model that learns, and not this one."""
        return {"teacher": self._digest}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Refuse to go on with another teacher.

        Raises
        ------
        ConfigError
            If its weights are not those that the run began with.
        """
        then = state.get("teacher", self._digest)  # earlier checkpoints do not say
        if then != self._digest:
            raise ConfigError(
                f"loss.teacher: expected the weights that the run began with (SHA-256 {then!s:.12}"
                f"...), got others ({self._digest[:12]}...); give that model, or begin a run anew"
            )

    def begin(self, batch: Batch) -> None:
        """Run the teacher on the rows of a pass."""
        longest = self._teacher.seq_len
        if batch.x_BT.shape[1] > longest:
            raise ShapeError(
                f"{_WHERE}: expected rows of at most the teacher's {longest} tokens, got "
                f"{batch.x_BT.shape[1]}; lower model.seq_len, or take another teacher"
            )
        self._write, self._next = self._teacher.read_logits(batch.x_BT, batch.start_BT), 0

    def tile(
        self, logits_NV: Array, targets_N: Array, weights_N: Array, *, gradient: bool = True
    ) -> Array:
        """Compute each row's loss times its weight, and replace the logits by the gradient."""
        losses_N = self._losses.view(logits_NV, targets_N, weights_N)
        temperature, alpha = self.temperature, self.alpha
        p_NV, q_NV = self._teachers(logits_NV)
        p_NV /= temperature
        np.divide(logits_NV, temperature, out=q_NV)
        real_N = targets_N != IGNORE_INDEX
        w_N = np.where(real_N, weights_N, 0)
        nothing_N, zero_N = np.full_like(targets_N, IGNORE_INDEX), np.zeros_like(w_N)
        top_N, total_N, top_q_N, total_q_N = (np.empty_like(w_N) for _ in range(4))

        ops.exp_sum(q_NV, top_q_N, total_q_N)
        ops.exp_sum(p_NV, top_N, total_N)
        q_NV -= p_NV  # log p - log q is what is left of it, and the logarithms of both sums
        lse_N = (top_q_N - top_N) + (np.log(total_q_N) - np.log(total_N))
        ops.softmax_gradient(p_NV, top_N, total_N, nothing_N, np.ones_like(w_N), zero_N)
        kl_N = lse_N - np.einsum("nv,nv->n", p_NV, q_NV)

        ops.exp_sum(logits_NV, top_N, total_N)
        target_N = logits_NV[np.arange(len(w_N)), np.where(real_N, targets_N, 0)]
        entropy_N = np.log(total_N) - (target_N - top_N)
        whole_N = (1 - alpha) * entropy_N + alpha * temperature**2 * kl_N
        losses_N[...] = np.where(real_N, weights_N * whole_N, 0)
        if gradient:
            np.divide(logits_NV, temperature, out=q_NV)
            soft_N = (w_N * (alpha * temperature)).astype(w_N.dtype)
            hard_N = (w_N * (1 - alpha)).astype(w_N.dtype)
            ops.softmax_gradient(q_NV, top_q_N, total_q_N, nothing_N, soft_N, zero_N)
            ops.softmax_gradient(logits_NV, top_N, total_N, targets_N, hard_N, hard_N)
            p_NV *= soft_N[:, None]
            logits_NV += q_NV
            logits_NV -= p_NV
            logits_NV[~real_N] = 0
        return losses_N

    def _teachers(self, logits_NV: Array) -> tuple[Array, Array]:
        """Return the teacher's logits of the next rows, and room for as many numbers."""
        count, vocab = logits_NV.shape
        if self._teacher.vocab_size not in (vocab, 0):
            raise ConfigError(
                f"{_WHERE}: expected a teacher of {vocab} token ids, as the model has, got one of "
                f"{self._teacher.vocab_size}; take one of the same tokenizer"
            )
        if self._write is None:
            raise ShapeError(
                f"{_WHERE}: expected to be told of the pass (Loss.begin) before its tiles, was "
                "not; train with it by a Trainer, or call begin(batch) first"
            )
        kept = self._tiles
        if kept.dtype != logits_NV.dtype or kept.shape[1] < count or kept.shape[2] != vocab:
            kept = self._tiles = np.empty((2, count, vocab), logits_NV.dtype)
        teacher_NV = kept[0, :count]
        self._write(slice(self._next, self._next + count), teacher_NV)
        self._next += count
        return teacher_NV, kept[1, :count]
