"""AdamW whose running means take a byte each."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Optimizer
from tisslm.contracts.options import LEAST_EPS, count, number
from tisslm.memory import Parameter, Parameters
from tisslm.memory.shards import Piece
from tisslm_optimizers.arrays import BLOCK, Gauge, Kinds, nbytes_of, zeros
from tisslm_optimizers.dynamic_map import ZERO
from tisslm_optimizers.maps import Whole, check_whole, groups_of
from tisslm_optimizers.reference import adam8bit as reference

__all__ = ["Adam8bit", "adam8bit_update"]

adam8bit_update = ops.register(
    reference.adam8bit_update,
    "tisslm_optimizers._kernels.adam8bit:adam8bit_update",
    part="optimizer",
)


@final
class Adam8bit(Optimizer):
    """AdamW with both running means in 8 bits, in blocks of 256 elements.

    Each block has its largest magnitude as a number, and each element a byte that stands for a
    share of it, closer together towards zero (``dynamic_map``). An update unpacks a block, is
    AdamW's, and packs the block again; what it moves parameters by was not rounded to bytes. Blocks
    begin with each parameter, so they do not depend on how anything is laid out.

    Parameters
    ----------
    parameters : Parameters
    lr : float
        Learning rate.
    beta1, beta2 : float
        Decay rates of the two running means, in [0, 1).
    eps : float
        Constant in the denominator, at least 1e-30.
    weight_decay : float
        Decay per update in units of the learning rate, for parameters that decay (matrices by
        default).
    full_below : int
        Parameters with fewer elements keep their means in full, as they take no memory to speak of.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Notes
    -----
    State: ``<parameter>/m`` and ``<parameter>/v``, bytes, with ``<parameter>/m_scale`` and
    ``<parameter>/v_scale``; of small parameters ``m`` and ``v`` alone, as numbers; and ``step``.

    References
    ----------
    Dettmers, Lewis, Shleifer and Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
    arXiv 2110.02861. Blocks are as small as in later versions of the authors' bitsandbytes.
    """

    takes_grad_scale: ClassVar[bool] = True
    measures_movement: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True
    elementwise: ClassVar[bool] = False
    test_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"full_below": 1},
        {"full_below": 40},
    )

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        full_below: int = 4096,
    ) -> None:
        check_whole("adam8bit", parameters)
        super().__init__(parameters, lr)
        self.beta1 = number("optimizer adam8bit: beta1", beta1, 0, 1)
        self.beta2 = number("optimizer adam8bit: beta2", beta2, 0, 1)
        self.eps = number("optimizer adam8bit: eps", eps, LEAST_EPS)
        self.weight_decay = number("optimizer adam8bit: weight_decay", weight_decay, 0)
        self.full_below = count("optimizer adam8bit: full_below", full_below)
        self._state = zeros(self._kinds(parameters))
        for name, array in self._state.items():
            if array.dtype == np.uint8 and name.endswith("/m"):
                array[...] = ZERO
        longest = max((p.size for p in parameters if p.trainable), default=0)
        self._parameters = list(groups_of(parameters))
        self._gauge = Gauge(parameters, -(-longest // BLOCK))

    def _kinds(self, parameters: Whole) -> Kinds:
        found: dict[str, tuple[tuple[int, ...], Any]] = {"step": ((1,), "int64")}
        for p, _ in groups_of(parameters):
            packed = p.size >= self.full_below
            blocks = -(-p.size // reference.QUANTIZED)
            for slot in "mv":
                found[f"{p.name}/{slot}"] = (p.shape, "uint8" if packed else parameters.dtype)
                if packed:
                    found[f"{p.name}/{slot}_scale"] = ((blocks,), parameters.dtype)
        return found

    def planned(self, parameters: Whole) -> dict[str, int]:
        """Return the bytes of the state."""
        return nbytes_of(self._kinds(parameters))

    def update(self, grad_scale: float) -> None:
        """Make one update, parameter by parameter."""
        data_P, grad_P = self.parameters.data, self.parameters.grad
        t = int(self._state["step"][0]) + 1
        corrections = 1.0 - self.beta1**t, 1.0 - self.beta2**t
        with self._gauge.told(self.movement):
            for p, group in self._parameters:
                part, moved_K2 = slice(p.offset, p.offset + p.size), self._gauge.wanted(p.size)
                decay = group.decay_of(self.weight_decay)
                rate = (self.get_lr() * group.lr_scale, self.beta1, self.beta2, self.eps, decay)
                p_P, g_P = data_P[part], grad_P[part]
                m_P, v_P = self._slot(p, "m"), self._slot(p, "v")
                if m_P.dtype == np.uint8:
                    scales = self._slot(p, "m_scale"), self._slot(p, "v_scale")
                    arrays = p_P, g_P, m_P, v_P, *scales
                    adam8bit_update(*arrays, *rate, *corrections, grad_scale, moved_K2)
                else:
                    given = p_P, g_P, m_P, v_P, *rate, True, *corrections
                    ops.adam_update(*given, grad_scale, moved_K2)
                self._gauge.add(group, moved_K2)
        self._state["step"] += 1

    def _slot(self, p: Parameter | Piece, slot: str) -> NDArray[Any]:
        """Return an array of a parameter's state, flat."""
        return self._state[f"{p.name}/{slot}"].reshape(-1)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``step``, and both means of each parameter with their scales."""
        return dict(self._state)
