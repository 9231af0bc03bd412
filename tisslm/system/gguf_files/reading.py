"""Reading GGUF files: metadata at once, tensors one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import CheckpointError
from tisslm.system.gguf_files.blocks import dequantized
from tisslm.system.gguf_files.header import BadHeaderError, read_header
from tisslm.system.safe_files import Refusal, RegularFile, show
from tisslm.system.tensor_files import Kind, Piece, StreamedArrays

__all__ = ["GgufFile"]

Array = NDArray[Any]

REFUSAL = Refusal(
    CheckpointError, "cannot be used as a GGUF file", "download it or convert it again"
)

_PIECE = 2**18  # numbers that are read at once, whole blocks: as float32 they stay in a cache


class GgufFile(StreamedArrays):
    """The tensors of a file by name, each read when it is asked for, and not kept.

    Floating-point numbers and integers have their own type, bfloat16 as uint16; quantized ones
    become float32. The file is kept open and is not mapped: one that is cut meanwhile is an error.

    Parameters
    ----------
    path : str or Path
        A regular file, or a symbolic link to one.
    refusal : Refusal
        Makes the exception for every error of this file.

    Attributes
    ----------
    metadata : mapping of str to bool, int, float, str, list of str, or ndarray
    tensors : mapping of str to TensorPlace

    Raises
    ------
    TissLMError
        If the file cannot be read, or is no complete file of this format; ``refusal`` decides
        which.
    """

    def __init__(self, path: str | Path, refusal: Refusal = REFUSAL) -> None:
        self.file = RegularFile(path, refusal, follow=True)
        try:
            header = read_header(self.file)
        except BadHeaderError as reason:
            self.file.close()
            raise refusal(path, reason) from None
        self.metadata, self.tensors = header.metadata, header.tensors

    def kind(self, name: str) -> Kind:
        """Return shape and type of a tensor without reading it."""
        place = self.tensors[name]
        return place.shape, np.dtype(place.kind.dtype or np.float32)

    def pieces(self, name: str) -> Iterator[Piece]:
        """Yield a tensor in rows that together fit a cache, each with where it belongs."""
        place = self.tensors[name]
        width = math.prod(place.shape[1:])
        step = max(1, _PIECE // width)
        for first in range(0, place.shape[0], step):
            rows = slice(first, min(first + step, place.shape[0]))
            shape = (rows.stop - first, *place.shape[1:])
            held = np.empty(place.kind.nbytes(shape), np.uint8)
            self.file.read_into(held.data, place.start + place.kind.nbytes((first, width)))
            yield rows, self._numbers(name, held).reshape(shape)

    def _numbers(self, name: str, held: NDArray[np.uint8]) -> Array:
        """Return what bytes of a tensor stand for."""
        kind = self.tensors[name].kind
        if kind.dtype is not None:
            return held.view(kind.dtype)
        try:
            with np.errstate(all="ignore"):  # what a scale that is not finite gives is kept
                return dequantized(held, kind)
        except NotImplementedError:
            reason = f"{show(name)}: the package gguf cannot dequantize {kind.name}"
            raise self.file.refusal(self.file.path, reason) from None

    def __getitem__(self, name: str) -> Array:
        array = np.empty(*self.kind(name))
        for rows, values in self.pieces(name):
            array[rows] = values
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)
