"""Checking the vectors of an update, their directions, and losses at several lengths of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import PooledBatch, PooledValue
from tisslm.contracts.options import count, number
from tisslm.errors import ConfigError, ShapeError

__all__ = ["SHORTEST", "Cuts", "check_texts", "tiles"]

Array = NDArray[Any]

#: A vector that is shorter counts as zero: it has no direction, so no gradient. That of a longer
#: one is at most 1 / SHORTEST times as large as that of its direction.
SHORTEST = 1e-12

#: Numbers of a tile of rows in float64, 2 MiB.
_TILE = 1 << 18

#: Vectors and where their gradient goes (None: is not asked for) -> loss, gradient by log scale.
At = Callable[[Array, Array | None], tuple[float, float]]


@final
class Cuts:
    """A loss of vectors, or the sum of it over the first D numbers of them, for several D.

    A vector that was cut is divided by its length, so that each cut is an embedding by itself.

    Parameters
    ----------
    where : str
        The name of the loss in messages, such as ``"loss triplet"``.
    dimensions : sequence of int, optional
        Each D, ascending; None for the vectors as they are.
    weights : sequence of float, optional
        What the loss at each D counts; 1 if left out.

    Raises
    ------
    ConfigError
        If they are not ascending, or the weights do not fit them.

    References
    ----------
    Kusupati et al., "Matryoshka Representation Learning", arXiv 2205.13147.
    """

    def __init__(self, where: str, dimensions: object, weights: object) -> None:
        self._where = where
        self.dimensions = None if dimensions is None else _ascending(where, dimensions)
        self.weights = _weights(where, weights, self.dimensions)

    @property
    def longest(self) -> int:
        """The longest D, 1 for vectors as they are."""
        return 1 if self.dimensions is None else self.dimensions[-1]

    def value(self, pooled: PooledBatch, at: At, *, unit: bool, gradient: bool) -> PooledValue:
        """Compute the loss and its gradient by the vectors.

        Parameters
        ----------
        pooled : PooledBatch
        at : callable
            The loss of vectors (K, N, D), C-contiguous, which are unit vectors if they were cut or
            ``unit`` is true. It writes its gradient, and returns loss and gradient by the scale.
        unit : bool
            Whether it asks for unit vectors.
        gradient : bool
        """
        whole_KNE = pooled.embeddings_KNE
        size = whole_KNE.shape[-1]
        if self.dimensions is not None and self.dimensions[-1] > size:
            raise ConfigError(
                f"{self._where}: dimensions: expected at most the {size} numbers of the model's "
                f"vectors, got {self.dimensions[-1]}; leave out what is beyond"
            )
        unit = unit or self.dimensions is not None
        total, d_scale = 0.0, 0.0
        d_whole_KNE: Array | None = None
        cuts = zip(self.dimensions or (size,), self.weights, strict=True)
        for cut, weight in reversed(list(cuts)):  # the longest first: its gradient is the place
            x_KND = np.array(whole_KNE[..., :cut], order="C")
            d_KND = np.empty_like(x_KND) if gradient else None
            inverse_M = _to_directions(x_KND) if unit else None
            loss, d_log = at(x_KND, d_KND)
            total, d_scale = total + weight * loss, d_scale + weight * d_log
            if d_KND is None:
                continue
            if inverse_M is not None:
                _of_lengths(x_KND, d_KND, inverse_M)
            d_KND *= d_KND.dtype.type(weight)
            if d_whole_KNE is None and cut == size:
                d_whole_KNE = d_KND
                continue
            d_whole_KNE = np.zeros_like(whole_KNE) if d_whole_KNE is None else d_whole_KNE
            d_whole_KNE[..., :cut] += d_KND
        return PooledValue(total, d_whole_KNE, d_scale)


def check_texts(where: str, pooled: PooledBatch, n_texts: range) -> None:
    """Check the arrays of an update.

    Raises
    ------
    ShapeError
        If vectors or ids have another type or shape.
    ConfigError
        If an example has another number of texts than the loss is for.
    """
    x, ids = pooled.embeddings_KNE, pooled.text_ids_KN
    if x.ndim != 3 or not x.size or x.dtype not in (np.float32, np.float64):
        raise ShapeError(
            f"{where}: expected vectors of shape (K, N, E), float32 or float64, "
            f"got {x.shape} {x.dtype}"
        )
    if ids.shape != x.shape[:2]:
        raise ShapeError(f"{where}: expected ids of shape {x.shape[:2]}, got {ids.shape}")
    if len(x) not in n_texts:
        some = f"{n_texts[0]}" if len(n_texts) == 1 else f"at least {n_texts[0]}"
        raise ConfigError(
            f"{where}: expected {some} texts in each example, got {len(x)}; choose another loss, "
            "or other columns of the data"
        )


def tiles(n_rows: int, size: int) -> Iterator[slice]:
    """Yield slices of rows, of which a float64 copy takes little memory."""
    rows = max(1, _TILE // size)
    for start in range(0, n_rows, rows):
        yield slice(start, min(start + rows, n_rows))


def _to_directions(x_KND: Array) -> Array:
    """Divide vectors by their lengths, in place, and return one over each; 0 if it has none."""
    x_MD = x_KND.reshape(-1, x_KND.shape[-1])
    length_M = np.sqrt(np.einsum("md,md->m", x_MD, x_MD, dtype=np.float64))
    length_M[length_M < SHORTEST] = np.inf
    inverse_M: Array = 1.0 / length_M
    x_MD *= inverse_M[:, None].astype(x_MD.dtype)
    return inverse_M


def _of_lengths(u_KND: Array, d_KND: Array, inverse_M: Array) -> None:
    """Turn the gradient by u = x / |x| into that by x: ``(du - u (u . du)) / |x|``, in place."""
    size = u_KND.shape[-1]
    u_MD, d_MD = u_KND.reshape(-1, size), d_KND.reshape(-1, size)
    for rows in tiles(len(u_MD), size):
        u, d = u_MD[rows].astype(np.float64), d_MD[rows].astype(np.float64)
        along = (u * d).sum(axis=1, keepdims=True)
        d_MD[rows] = (d - u * along) * inverse_M[rows, None]


def _ascending(where: str, dimensions: object) -> tuple[int, ...]:
    if isinstance(dimensions, Sequence) and not isinstance(dimensions, str) and dimensions:
        found = tuple(count(f"{where}: dimensions", each, 1) for each in dimensions)
        if all(a < b for a, b in pairwise(found)):
            return found
    raise ConfigError(
        f"{where}: dimensions: expected ascending numbers such as [64, 128, 256], "
        f"got {dimensions!r:.200}"
    )


def _weights(where: str, weights: object, dimensions: tuple[int, ...] | None) -> tuple[float, ...]:
    if weights is None:
        return (1.0,) * len(dimensions or (0,))
    if isinstance(weights, Sequence) and not isinstance(weights, str) and dimensions is not None:
        found = tuple(number(f"{where}: weights", each, 0) for each in weights)
        if len(found) == len(dimensions):
            return found
    raise ConfigError(
        f"{where}: weights: expected a number for each of dimensions, got {weights!r:.200}"
    )
