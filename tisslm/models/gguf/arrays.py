"""The parameters of a model out of the tensors of a GGUF file, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.models.gguf.architectures import Part
from tisslm.system.gguf_files import GgufFile
from tisslm.system.tensor_files import Kind, Piece, StreamedArrays

__all__ = ["GgufArrays", "neighbours_apart", "neighbours_together"]

Array = NDArray[Any]


def neighbours_apart(x: Array, heads: int) -> Array:
    """Return rows of heads whose pairs are rows i and i + D/2, given pairs of rows 2i and 2i + 1.

    Examples
    --------
    >>> neighbours_apart(np.arange(8), 2)
    array([0, 2, 1, 3, 4, 6, 5, 7])
    """
    return x.reshape(heads, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def neighbours_together(x: Array, heads: int) -> Array:
    """Invert ``neighbours_apart``."""
    return x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


class GgufArrays(StreamedArrays):
    """Our parameters by name: float32, float16, float64, or uint16 for bfloat16.

    Parameters
    ----------
    file : GgufFile
    parts : mapping of str to (shape, list of Part)
        The tensors of each parameter. Where these are of several types, it is float32.
    """

    def __init__(
        self, file: GgufFile, parts: Mapping[str, tuple[tuple[int, ...], list[Part]]]
    ) -> None:
        self._file, self._parts = file, parts

    def kind(self, name: str) -> Kind:
        """Return shape and type of a parameter without making it."""
        shape, parts = self._parts[name]
        types = {self._file.kind(part.name)[1] for part in parts}
        return shape, types.pop() if len(types) == 1 else np.dtype(np.float32)

    def pieces(self, name: str) -> Iterator[Piece]:
        """Yield a parameter in rows, each with where they belong; heads in another order, whole."""
        dtype = self.kind(name)[1]
        for part in self._parts[name][1]:
            if part.heads:
                yield part.rows, _as(dtype, neighbours_apart(self._file[part.name], part.heads))
                continue
            first = part.rows.start
            for rows, values in self._file.pieces(part.name):
                yield slice(first + rows.start, first + rows.stop), _as(dtype, values)

    def __getitem__(self, name: str) -> Array:
        made = np.empty(*self.kind(name))
        for rows, values in self.pieces(name):
            made[rows] = values
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def _as(dtype: np.dtype[Any], x: Array) -> Array:
    """Return x, or its float32 if the parameter has another type."""
    return x if x.dtype == dtype else ops.widen(x).astype(dtype, copy=False)
