"""The parameters of a model out of the tensors of a GGUF file, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.models.gguf.architectures import Part
from tisslm.system.gguf_files import GgufFile
from tisslm.system.tensor_files import Kind, StreamedArrays

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

    def __getitem__(self, name: str) -> Array:
        (shape, dtype), (_, parts) = self.kind(name), self._parts[name]
        if len(parts) == 1 and not parts[0].heads:
            return self._file[parts[0].name]
        made = np.empty(shape, dtype)
        for part in parts:
            found = self._file[part.name]
            if found.dtype != dtype:
                found = _widened(found)
            made[part.rows] = neighbours_apart(found, part.heads) if part.heads else found
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def _widened(x: Array) -> Array:
    """Return float32; uint16 is bfloat16."""
    if x.dtype == np.uint16:
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float32)
