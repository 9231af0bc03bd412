"""The types of values and of tensors that the format has, by their numbers in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "ALIGNMENT",
    "ARRAY",
    "BOOL",
    "MAGIC",
    "NUMBERS",
    "STRING",
    "TENSORS",
    "VERSION",
    "TensorKind",
    "tensor_kind",
]

MAGIC, VERSION = b"GGUF", 3

#: Where tensors begin is a multiple of this, unless metadata say another.
ALIGNMENT = 32

#: Types of values that are one number each.
NUMBERS = {
    number: np.dtype(code)
    for number, code in {
        0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8",
        12: "<f8",
    }.items()
}  # fmt: skip
BOOL, STRING, ARRAY = 7, 8, 9


@dataclass(frozen=True, slots=True)
class TensorKind:
    """How the numbers of a tensor are kept.

    Attributes
    ----------
    number : int
        What a file says.
    name : str
    per_block, block_bytes : int
        So many numbers of a row are kept in so many bytes.
    dtype : str or None
        NumPy's type of the numbers; None for those of quantized blocks. bfloat16 is ``uint16``.
    """

    number: int
    name: str
    per_block: int
    block_bytes: int
    dtype: str | None = None

    def nbytes(self, shape: Sequence[int]) -> int:
        """Return the bytes of a tensor whose rows are whole blocks."""
        return math.prod(shape) // self.per_block * self.block_bytes


_PLAIN = {
    0: ("F32", "<f4"), 1: ("F16", "<f2"), 24: ("I8", "i1"), 25: ("I16", "<i2"), 26: ("I32", "<i4"),
    27: ("I64", "<i8"), 28: ("F64", "<f8"), 30: ("BF16", "<u2"),
}  # fmt: skip
_BLOCKS = {
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip

#: Every type of tensor by its number in a file.
TENSORS = {
    number: TensorKind(number, name, 1, np.dtype(code).itemsize, code)
    for number, (name, code) in _PLAIN.items()
} | {number: TensorKind(number, *kind) for number, kind in _BLOCKS.items()}

_BY_NAME = {kind.name: kind for kind in TENSORS.values()}


def tensor_kind(name: str) -> TensorKind:
    """Return a type by its name, such as ``"Q8_0"``."""
    return _BY_NAME[name]
