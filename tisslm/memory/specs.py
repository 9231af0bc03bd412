"""What parameters are, before any of them has memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tisslm.errors import ShapeError

__all__ = ["STORED", "Decaying", "ParameterSpec"]

#: The type of arrays that are stored in two bytes: the bits of bfloat16.
STORED: np.dtype[Any] = np.dtype(np.uint16)


class Decaying:
    """What has a weight decay of its own, or leaves it to the optimizer.

    Attributes
    ----------
    decay : bool
        Whether the optimizer's applies, where there is none of its own.
    weight_decay : float or None
        Its own.
    """

    decay: bool
    weight_decay: float | None

    def decay_of(self, weight_decay: float) -> float:
        """Return the weight decay that an update is made with, given the optimizer's."""
        if self.weight_decay is not None:
            return self.weight_decay
        return weight_decay if self.decay else 0.0


@dataclass(frozen=True)
class ParameterSpec:
    """The description of a parameter, which needs no memory.

    Attributes
    ----------
    name : str
        The dotted name, such as ``blocks.0.mlp.up.weight``.
    shape : tuple of int
    decay : bool
        Whether weight decay applies: to matrices, not to biases and norms.
    lr_scale : float
        Factor on the learning rate of this parameter.
    weight_decay : float or None
        Its own weight decay, which applies whatever ``decay`` says; None for the optimizer's.
    trainable : bool
        Whether it is trained; a frozen parameter has no gradient.
    storable : bool
        Whether all that reads it takes values in two bytes, too; a matrix of products, say.
    stored : {"", "bf16"}
        How a frozen parameter is kept: as the others are, or in two bytes an element.
    blocks : tuple of (str, int)
        Names and numbers of the rows that belong together, in order: a matrix of several maps is
        one product, and still consists of maps that others know by name. Empty for a single map.

    Examples
    --------
    >>> spec = ParameterSpec("up.weight", (6, 2), blocks=(("gate", 3), ("up", 3)))
    >>> spec.rows()
    {'gate': slice(0, 3, None), 'up': slice(3, 6, None)}
    """

    name: str
    shape: tuple[int, ...]
    decay: bool = True
    lr_scale: float = 1.0
    weight_decay: float | None = None
    trainable: bool = True
    storable: bool = False
    stored: str = ""
    blocks: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if self.stored and self.trainable:
            raise ShapeError(f"{self.name}: expected {self.stored} of a frozen parameter alone")
        if self.blocks and sum(rows for _, rows in self.blocks) != self.shape[0]:
            raise ShapeError(
                f"{self.name}: expected blocks of {self.shape[0]} rows together, got {self.blocks}"
            )

    def rows(self) -> dict[str, slice]:
        """Return the rows of each named block; of a single map, an empty dict."""
        found, first = {}, 0
        for name, count in self.blocks:
            found[name] = slice(first, first + count)
            first += count
        return found
