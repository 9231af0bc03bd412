"""The tables of rotary positions: cosines and sines of the angles that published weights know.

At position 8000 a float32 angle is 5e-4 off the exact one, and weights were trained with the
rounded one. So frequencies are float32, as Hugging Face transformers computes them, an angle is the
float32 product of frequency and position, and what is exact is its cosine and its sine. Powers of
theta are rounded from float64: PyTorch's own are so in 99 of 100 channels, and else one unit in the
last place away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from tisslm.config.model import RopeScaling, TransformerConfig, Unscaled

__all__ = ["Rotary", "RotaryTable"]

Array = NDArray[np.float32]

#: Rows of a table that are computed at once, in float64.
_ROWS = 1024


@final
@dataclass(frozen=True)
class Rotary:
    """The angles of one model: ``w_i = theta^(-i / R)``, perhaps scaled, times the position.

    Parameters
    ----------
    head_dim : int
        D, the channels of a head.
    fraction : float
        How much of D is turned; ``int(fraction D)`` channels, which are 2R and must be even.
    theta : float
    scaling : RopeScaling
    """

    head_dim: int
    fraction: float = 1.0
    theta: float = 10_000.0
    scaling: RopeScaling = field(default_factory=Unscaled)

    @property
    def n_pairs(self) -> int:
        """R, half of the channels that are turned."""
        return int(self.head_dim * self.fraction) // 2

    def frequencies(self) -> Array:
        """Return ``w_R`` in float32: radians that one position is turned further than the last."""
        exponent_R = np.arange(0, 2 * self.n_pairs, 2, dtype=np.float32)
        exponent_R /= np.float32(2 * self.n_pairs)
        power_R = np.power(np.float64(np.float32(self.theta)), exponent_R.astype(np.float64))
        with np.errstate(all="ignore"):  # of mixtures that are not taken
            return self.scaling.frequencies(power_R.astype(np.float32), self.theta)

    def tables(self, n_positions: int) -> tuple[Array, Array]:
        """Return cosines and sines for positions 0 to P - 1, times the scaling's magnitude.

        Returns
        -------
        cos_PR, sin_PR : ndarray of float32 of shape (P, R)
            New arrays.
        """
        frequency_R, magnitude = self.frequencies(), np.float32(self.scaling.magnitude)
        cos_PR, sin_PR = (np.empty((n_positions, self.n_pairs), np.float32) for _ in range(2))
        for first in range(0, n_positions, _ROWS):
            rows = slice(first, min(first + _ROWS, n_positions))
            position_P1 = np.arange(rows.start, rows.stop).astype(np.float32)[:, None]
            angle_PR = (position_P1 * frequency_R).astype(np.float64)
            cos_PR[rows] = np.cos(angle_PR)
            sin_PR[rows] = np.sin(angle_PR)
        cos_PR *= magnitude
        sin_PR *= magnitude
        return cos_PR, sin_PR


@final
class RotaryTable:
    """The cosines and sines of a model's positions, computed when they are first asked for.

    Parameters
    ----------
    rotary : Rotary
    n_positions : int
        P, the model's longest T.
    """

    def __init__(self, rotary: Rotary, n_positions: int) -> None:
        self.rotary = rotary
        self.n_positions = n_positions

    @classmethod
    def of(cls, config: TransformerConfig) -> RotaryTable:
        """Return the table of a model with rotary positions."""
        scaling = RopeScaling.parse(config.rope_scaling, config.seq_len)
        rotary = Rotary(config.head_dim, config.rotary_fraction, config.rope_theta, scaling)
        return cls(rotary, config.seq_len)

    @property
    def nbytes(self) -> int:
        """Bytes of both tables."""
        return 2 * 4 * self.n_positions * self.rotary.n_pairs

    @cached_property
    def angles(self) -> tuple[Array, Array]:
        """Cosines and sines, each of shape (P, R)."""
        return self.rotary.tables(self.n_positions)
