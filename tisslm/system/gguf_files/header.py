"""What stands before the arrays of a GGUF file: metadata, and the place of every tensor.

Nothing of it is trusted. A count is compared with the bytes that are left before anything of its
size is made, and all that a header may have is bounded.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tisslm.system.gguf_files.kinds import (
    ALIGNMENT,
    ARRAY,
    BOOL,
    MAGIC,
    NUMBERS,
    STRING,
    TENSORS,
    VERSION,
    TensorKind,
)
from tisslm.system.safe_files import RegularFile, show

__all__ = ["BadHeaderError", "Header", "TensorPlace", "read_header"]

# What a header may have. The largest vocabularies, of 260,000 tokens and their merges, take 12 MB.
_MOST_BYTES = 64 * 2**20
_MOST_STRINGS = 2**21  # in all arrays: Python takes some 60 bytes for each
_MOST_KEYS = 2**12
_MOST_TENSORS = 2**16
_LONGEST_KEY = 2**16 - 1  # bytes; the format's own bounds
_LONGEST_NAME = 64
_MOST_AXES = 4
_MOST_ALIGNMENT = 2**16

_FIRST = 2**20  # bytes that are read to begin with
_NO_VALUE = object()


class BadHeaderError(ValueError):
    """Raised to refuse a header."""


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor is.

    Attributes
    ----------
    shape : tuple of int
        As NumPy has it: rows first. The file says it the other way round.
    kind : TensorKind
    start : int
        The offset of its first byte in the file.
    """

    shape: tuple[int, ...]
    kind: TensorKind
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.kind.nbytes(self.shape)


@dataclass(frozen=True)
class Header:
    """Metadata and tensors, in the order of the file."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorPlace]


def read_header(file: RegularFile) -> Header:
    """Read what stands before the arrays, and check that these are inside the file, apart.

    Raises
    ------
    BadHeaderError
        With the reason.
    TissLMError
        Of the file, if it cannot be read.
    """
    reader = _Reader(file)
    _check_magic(reader)
    n_tensors, n_keys = reader.number("<Q"), reader.number("<Q")
    reader.check_count(n_tensors, _MOST_TENSORS, 33, "tensors")
    reader.check_count(n_keys, _MOST_KEYS, 13, "keys of metadata")
    metadata: dict[str, Any] = {}
    for _ in range(n_keys):
        key = reader.text(_LONGEST_KEY, "a key of metadata")
        if key in metadata:
            raise BadHeaderError(f"the key {show(key)} is there twice")
        metadata[key] = reader.value(key)
    alignment = _alignment(metadata)
    tensors: dict[str, TensorPlace] = {}
    for _ in range(n_tensors):
        name = reader.text(_LONGEST_NAME, "the name of a tensor")
        if name in tensors:
            raise BadHeaderError(f"the tensor {show(name)} is there twice")
        tensors[name] = reader.place(name, alignment)
    first = -(-reader.at // alignment) * alignment
    placed = {
        name: TensorPlace(at.shape, at.kind, first + at.start) for name, at in tensors.items()
    }
    _check_places(placed, file.size)
    return Header(metadata, placed)


def _check_magic(reader: _Reader) -> None:
    found = reader.take(4)
    if found != MAGIC:
        raise BadHeaderError(f"expected the first bytes {MAGIC!r}, got {found!r}")
    version = reader.number("<I")
    if version and not version & 0xFFFF:
        raise BadHeaderError("its numbers are big-endian, which is not read here")
    if version not in (2, VERSION):
        raise BadHeaderError(f"expected version 2 or {VERSION} of the format, got {version}")


def _alignment(metadata: Mapping[str, Any]) -> int:
    found = metadata.get("general.alignment", ALIGNMENT)
    power = type(found) is int and 0 < found <= _MOST_ALIGNMENT and not found & (found - 1)
    if not power:
        raise BadHeaderError(
            f"general.alignment: expected a power of two up to {_MOST_ALIGNMENT}, got {show(found)}"
        )
    return int(found)


def _check_places(tensors: Mapping[str, TensorPlace], size: int) -> None:
    places = sorted(tensors.items(), key=lambda item: item[1].start)
    for name, place in places:
        if place.start + place.nbytes > size:
            raise BadHeaderError(
                f"{show(name)}: expected {place.nbytes} bytes from {place.start} on, got a file of "
                f"{size}: it is cut, or its header is wrong"
            )
    for (before, low), (name, place) in itertools.pairwise(places):
        if low.start + low.nbytes > place.start:
            raise BadHeaderError(f"the bytes of {show(before)} and {show(name)} overlap")


class _Reader:
    """Reads a header from the front; what was read is kept, and grows as it is asked for."""

    def __init__(self, file: RegularFile) -> None:
        self._file = file
        self._bytes = bytearray()
        self._strings_left = _MOST_STRINGS
        self.at = 0

    def _need(self, count: int) -> None:
        """Have so many bytes from here on in memory."""
        end, have = self.at + count, len(self._bytes)
        if end <= have:
            return
        if end > self._file.size:
            raise BadHeaderError(
                f"expected {count} bytes from {self.at} on, got a file of {self._file.size}: it is "
                "cut, or its header is wrong"
            )
        if end > _MOST_BYTES:
            raise BadHeaderError(f"expected a header of at most {_MOST_BYTES} bytes, got more")
        goal = min(max(end, 2 * have, _FIRST), self._file.size, _MOST_BYTES)
        self._bytes.extend(bytes(goal - have))
        with memoryview(self._bytes) as whole:
            self._file.read_into(whole[have:], have)

    def check_count(self, count: int, most: int, each: int, what: str) -> None:
        """Refuse a count that is out of bounds, or of more than what is left can hold."""
        if count > most:
            raise BadHeaderError(f"expected at most {most} {what}, got {count}")
        if count * each > self._file.size - self.at:
            raise BadHeaderError(
                f"expected {count} {what}, got {self._file.size - self.at} bytes for them: the "
                "file is cut, or its header is wrong"
            )

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self._need(count)
        found = bytes(self._bytes[self.at : self.at + count])
        self.at += count
        return found

    def number(self, code: str) -> Any:
        """Return the next number, of one of ``struct``'s types."""
        self._need(struct.calcsize(code))
        (found,) = struct.unpack_from(code, self._bytes, self.at)
        self.at += struct.calcsize(code)
        return found

    def text(self, longest: int, what: str) -> str:
        """Return the next string, which is not empty."""
        length = self.number("<Q")
        if not 1 <= length <= longest:
            raise BadHeaderError(f"expected {what} of 1 to {longest} bytes, got {length}")
        return _decoded(self.take(length), what)

    def value(self, key: str) -> Any:
        """Return the next value of metadata; arrays of numbers are NumPy's."""
        kind = self.number("<I")
        if kind != ARRAY:
            found = self._single(kind, key)
            if found is _NO_VALUE:
                raise BadHeaderError(f"{show(key)}: expected a type from 0 to 12, got {kind}")
            return found
        kind, count = self.number("<I"), self.number("<Q")
        if kind == STRING:
            return self._strings(count, key)
        if kind == BOOL or kind in NUMBERS:
            dtype = NUMBERS.get(kind, np.dtype(np.uint8))
            self.check_count(count, _MOST_BYTES, dtype.itemsize, f"numbers of {show(key)}")
            return np.frombuffer(self.take(count * dtype.itemsize), dtype)
        raise BadHeaderError(f"{show(key)}: expected an array of numbers or strings, got {kind}")

    def _single(self, kind: int, key: str) -> Any:
        if kind == STRING:
            return _decoded(self.take(self.number("<Q")), show(key))
        if kind == BOOL:
            truth = self.number("B")
            if truth > 1:
                raise BadHeaderError(f"{show(key)}: expected 0 or 1 for a truth, got {truth}")
            return bool(truth)
        if kind not in NUMBERS:
            return _NO_VALUE
        dtype = NUMBERS[kind]
        (number,) = np.frombuffer(self.take(dtype.itemsize), dtype)
        # the shortest decimal that gives this float32: 1e-05, and not 9.999999747378752e-06
        return float(str(number)) if dtype.kind == "f" else int(number)

    def _strings(self, count: int, key: str) -> list[str]:
        self.check_count(count, self._strings_left, 8, f"strings of {show(key)}")
        self._strings_left -= count
        found, length_at = [], struct.Struct("<Q").unpack_from
        try:
            for _ in range(count):
                self._need(8)
                (length,) = length_at(self._bytes, self.at)
                self.at += 8
                self._need(length)
                end = self.at + length
                found.append(self._bytes[self.at : end].decode())
                self.at = end
        except UnicodeDecodeError as error:
            raise BadHeaderError(f"{show(key)}: expected UTF-8 ({error.reason})") from None
        return found

    def place(self, name: str, alignment: int) -> TensorPlace:
        """Return the place of the next tensor, its offset counted from the first one's."""
        axes = self.number("<I")
        if not 1 <= axes <= _MOST_AXES:
            raise BadHeaderError(f"{show(name)}: expected 1 to {_MOST_AXES} axes, got {axes}")
        sizes = tuple(self.number("<Q") for _ in range(axes))
        kind, start = self.number("<I"), self.number("<Q")
        if kind not in TENSORS:
            raise BadHeaderError(f"{show(name)}: a type of tensor {kind} is not known here")
        if not all(1 <= size < 2**40 for size in sizes) or math.prod(sizes) >= 2**60:
            raise BadHeaderError(f"{show(name)}: the shape {show(sizes)} is empty or too large")
        if sizes[0] % TENSORS[kind].per_block:
            raise BadHeaderError(
                f"{show(name)}: expected rows of a multiple of {TENSORS[kind].per_block} numbers, "
                f"as {TENSORS[kind].name} has blocks, got {sizes[0]}"
            )
        if start % alignment:
            raise BadHeaderError(
                f"{show(name)}: expected an offset that is a multiple of {alignment}, got {start}"
            )
        return TensorPlace(sizes[::-1], TENSORS[kind], start)


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadHeaderError(f"expected {what} in UTF-8 ({error.reason})") from None
