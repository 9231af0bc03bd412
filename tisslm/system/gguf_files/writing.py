"""Writing GGUF files: the bytes in pieces, one tensor in memory at a time."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.system.gguf_files.blocks import quantized
from tisslm.system.gguf_files.kinds import (
    ALIGNMENT,
    ARRAY,
    BOOL,
    MAGIC,
    NUMBERS,
    STRING,
    VERSION,
    TensorKind,
)

__all__ = ["Tensor", "gguf_chunks"]

Array = NDArray[Any]

_PIECE = 2**20  # numbers that are converted at once
_UINT32, _FLOAT32 = 4, 6
_KIND_OF = {dtype.newbyteorder("="): number for number, dtype in NUMBERS.items()}


@dataclass(frozen=True)
class Tensor:
    """A tensor that is to be written.

    Attributes
    ----------
    shape : tuple of int
    kind : TensorKind
        ``F32``, ``F16``, ``BF16``, or a type whose blocks the package ``gguf`` makes.
    make : callable
        Returns the numbers, in any floating-point type, or uint16 for bfloat16.
    """

    shape: tuple[int, ...]
    kind: TensorKind
    make: Callable[[], Array]


def gguf_chunks(
    metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a file in pieces.

    Parameters
    ----------
    metadata : mapping of str to value
        Truths, integers (as 32 bits without sign), floats (as 32 bits), texts, lists of texts, and
        arrays of numbers in one axis.
    tensors : mapping of str to Tensor
    """
    head = bytearray(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata)))
    for key, value in metadata.items():
        head += _text(key) + _value(value)
    start = 0
    for name, tensor in tensors.items():
        head += _text(name) + struct.pack("<I", len(tensor.shape))
        head += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape[::-1])
        head += struct.pack("<IQ", tensor.kind.number, start)
        start += _padded(tensor.kind.nbytes(tensor.shape))
    yield bytes(head) + bytes(_padded(len(head)) - len(head))
    for tensor in tensors.values():
        yield from _pieces(tensor)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """Return the type and the bytes of a value."""
    if isinstance(value, bool):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if isinstance(value, np.ndarray):
        kind = _KIND_OF[value.dtype.newbyteorder("=")]
        little = value.astype(NUMBERS[kind], copy=False)
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + little.tobytes()
    texts: Sequence[str] = value
    return struct.pack("<IIQ", ARRAY, STRING, len(texts)) + b"".join(map(_text, texts))


def _pieces(tensor: Tensor) -> Iterator[bytes | memoryview]:
    flat, done = np.ascontiguousarray(tensor.make()).reshape(-1), 0
    for first in range(0, flat.size, _PIECE):
        piece = _as_kind(flat[first : first + _PIECE], tensor.kind)
        done += piece.nbytes
        yield np.ascontiguousarray(piece).view(np.uint8).data
    yield bytes(_padded(done) - done)


def _as_kind(x: Array, kind: TensorKind) -> Array:
    if kind.dtype is None:
        return quantized(_widened(x), kind)
    if kind.name == "BF16":
        return x if x.dtype == np.uint16 else _rounded(_widened(x))
    return _widened(x).astype(kind.dtype, copy=False)


def _widened(x: Array) -> Array:
    """Return float32, whatever it was."""
    if x.dtype == np.uint16:
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float32, copy=False)


def _rounded(x: Array) -> Array:
    """Return bfloat16's bits of float32, rounded to the nearest, ties to even; NaN stays NaN."""
    bits = x.view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> 16) & 1)
    rounded = ((bits + half) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), rounded)
