"""Arrays in safetensors files, written without copies and read one at a time.

A file is the length of its header, the header in JSON and the arrays' bytes. Nothing in it is
trusted: the header is parsed within limits, and each array must have a known type, a shape that
fits its bytes, and follow the one before, up to the end of the file. Files are read with read(2)
and not mapped: a file that is truncated meanwhile, or a disk that fails, is then an error and not a
signal that ends the process.

NumPy has no bfloat16: arrays of it are uint16 arrays with its bits, as everywhere (``ops.widen``).
Which of a file's are so is said beside them, since files have whole numbers of 16 bits, too.

The files of a checkpoint are defined in ``tisslm.checkpoint.files``; arrays that lie in several
files are read in ``sharded_tensors``.

References
----------
https://github.com/huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import CheckpointError
from tisslm.system.safe_files import CHECKPOINT, Refusal, RegularFile, show
from tisslm.system.strict_json import parse_json

__all__ = ["Kind", "Piece", "StreamedArrays", "TensorFile", "kind_of", "pieces_of", "tensor_chunks"]

Array = NDArray[Any]

#: Shape and type of an array.
Kind = tuple[tuple[int, ...], np.dtype[Any]]

#: An index of an array, and the elements there.
Piece = tuple[Any, Array]

#: The format's names of NumPy's types.
_TYPES = {"bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64"}
_TYPES |= {
    f"{word}{n}": f"{word[0].upper()}{n}" for word in ("int", "uint") for n in (8, 16, 32, 64)
}
_DTYPES = {name: np.dtype(dtype).newbyteorder("<") for dtype, name in _TYPES.items()}

#: The format's name of bfloat16, whose arrays are of uint16 here.
_BFLOAT16 = "BF16"
_READ = {**_DTYPES, _BFLOAT16: _DTYPES["U16"]}

_METADATA = "__metadata__"
_PIECE = 2**23  # bytes of an array handed out together: still in a cache when hashed and written
_READ_PIECE = 2**21  # bytes that are read together: still in a cache when widened and copied

# What a header may have. GPT-2 XL with its optimizer has 1,800 arrays.
_MAX_HEADER = 16 * 2**20  # bytes
_MAX_NOT_ASCII = 2**20  # bytes: Python keeps text with one rare character in four bytes for each
_MAX_ARRAYS = 2**15
_MAX_VALUES = 16 * _MAX_ARRAYS
_MAX_AXES = 32


class StreamedArrays(Mapping[str, Array]):
    """Arrays by name, each of which is made when it is asked for, and not kept."""

    @abstractmethod
    def kind(self, name: str) -> Kind:
        """Return shape and type of an array without making it."""

    def __contains__(self, name: object) -> bool:
        """Return whether there is an array of this name; the base would make it to see."""
        try:
            self.kind(name)  # type: ignore[arg-type]  # what is no string is no key either
        except (KeyError, TypeError):
            return False
        return True

    def pieces(self, name: str) -> Iterator[Piece]:
        """Yield an array in pieces, each with where it belongs: ``out[where] = piece``.

        By default the whole. What can be had in parts is yielded in parts, so that no copy of a
        large array lies in memory beside the one that is filled.
        """
        yield ..., self[name]


# --------------------------------------------------------------------------- writing


def tensor_chunks(
    arrays: Mapping[str, Array],
    where: str = "safetensors file",
    *,
    bfloat16: Container[str] = (),
) -> Iterator[bytes | memoryview]:
    """Return the bytes of a safetensors file in pieces, header first.

    Wide types come first, so that each array is aligned to its type. Contiguous arrays are not
    copied: the pieces, of at most 8 MiB, are views of them.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    where : str
        Name of the file, for messages.
    bfloat16 : container of str
        Names whose arrays of uint16 have the bits of bfloat16, and are written as such; the
        mapping itself for all. Those of other types are written as what they are.

    Raises
    ------
    CheckpointError
        If an array has a type that the format lacks, or ``TensorFile`` would refuse the header.
    """
    names = sorted(arrays, key=lambda name: (-kind_of(arrays, name)[1].itemsize, name))
    text = _header(arrays, names, where, bfloat16)
    return _pieces(text, (arrays[name] for name in names))


def _pieces(text: bytes, arrays: Iterator[Array]) -> Iterator[bytes | memoryview]:
    yield text
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        whole = np.ascontiguousarray(little).reshape(-1).view(np.uint8).data
        for start in range(0, len(whole), _PIECE):
            yield whole[start : start + _PIECE]


def _header(
    arrays: Mapping[str, Array], names: Sequence[str], where: str, bfloat16: Container[str]
) -> bytes:
    # Other readers ask which library's arrays these are; "pt" is the answer that all accept.
    header: dict[str, Any] = {_METADATA: {"format": "pt"}}
    end = 0
    for name in names:
        shape, dtype = kind_of(arrays, name)
        if dtype.name not in _TYPES:
            raise CheckpointError(
                f"{where}: {name} has type {dtype}, which safetensors files do not have; "
                f"keep it as one of {', '.join(_TYPES)}"
            )
        start, end = end, end + math.prod(shape) * dtype.itemsize
        is_brain = dtype.name == "uint16" and name in bfloat16
        type_ = _BFLOAT16 if is_brain else _TYPES[dtype.name]
        header[name] = {"dtype": type_, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    limit = _MAX_HEADER if text.isascii() else _MAX_NOT_ASCII
    if len(names) > _MAX_ARRAYS or len(text) > limit or _METADATA in arrays:
        raise CheckpointError(
            f"{where}: expected at most {_MAX_ARRAYS} arrays, with names of {limit} bytes in "
            f"all and none called {_METADATA}, got {len(names)} arrays and a header of {len(text)} "
            "bytes; keep fewer arrays, under shorter names"
        )
    return len(text).to_bytes(8, "little") + text


# --------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class _Entry:
    """The place of an array: offsets in bytes after the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int
    bfloat16: bool = False


class TensorFile(StreamedArrays):
    """The arrays of a file by name, each read when it is asked for, and not kept.

    The file is kept open, so what is read is the file that was checked, even if it is renamed or
    removed.

    Parameters
    ----------
    path : str or Path
        The path of a regular file.
    refusal : Refusal
        Makes the exception for every error of this file.
    follow : bool
        Whether the last part of the path may be a symbolic link.

    Attributes
    ----------
    bfloat16 : frozenset of str
        The names of arrays of uint16 that have the bits of bfloat16.

    Raises
    ------
    TissLMError
        If the file cannot be read, or is no complete file of this format.
    """

    def __init__(
        self, path: str | Path, refusal: Refusal = CHECKPOINT, *, follow: bool = False
    ) -> None:
        self.file = RegularFile(path, refusal, follow=follow)
        try:
            self._start, header = _read_header(self.file)
            self.metadata = _metadata(header.pop(_METADATA, {}))
            self._entries = {name: _entry(name, value) for name, value in header.items()}
            _check_offsets(self._entries, self.file.size - self._start)
            self.bfloat16 = frozenset(n for n, entry in self._entries.items() if entry.bfloat16)
        except _BadHeaderError as reason:
            self.file.close()
            raise refusal(path, reason) from None

    def kind(self, name: str) -> Kind:
        """Return shape and type of an array without reading it."""
        entry = self._entries[name]
        return entry.shape, entry.dtype

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        return self._read(name, entry.shape, entry.start)

    def pieces(self, name: str) -> Iterator[Piece]:
        """Yield an array in blocks of rows, of 2 MiB or one row."""
        entry = self._entries[name]
        rows = entry.shape[0] if entry.shape else 0
        if entry.end - entry.start <= _READ_PIECE or not rows:
            yield ..., self[name]
            return
        row = (entry.end - entry.start) // rows
        step = max(1, _READ_PIECE // row)
        for first in range(0, rows, step):
            last = min(first + step, rows)
            shape = (last - first, *entry.shape[1:])
            yield slice(first, last), self._read(name, shape, entry.start + first * row)

    def _read(self, name: str, shape: tuple[int, ...], start: int) -> Array:
        """Return elements of an array from an offset on, in a new one."""
        dtype = self._entries[name].dtype
        array = np.empty(shape, dtype)
        if array.nbytes:
            bytes_ = array.reshape(-1).view(np.uint8)
            self.file.read_into(bytes_.data, self._start + start)
            if dtype.kind == "b" and bytes_.max() > 1:
                reason = f"{show(name)}: expected truth values of 0 and 1, got {bytes_.max()}"
                raise self.file.refusal(self.file.path, reason)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def kind_of(arrays: Mapping[str, Array], name: str) -> Kind:
    """Return shape and type of an array, without making it if it is streamed."""
    if isinstance(arrays, StreamedArrays):
        return arrays.kind(name)
    return arrays[name].shape, arrays[name].dtype


def pieces_of(arrays: Mapping[str, Array], name: str) -> Iterator[Piece]:
    """Yield an array in pieces if it is streamed, and otherwise itself."""
    if isinstance(arrays, StreamedArrays):
        yield from arrays.pieces(name)
    else:
        yield ..., arrays[name]


class _BadHeaderError(ValueError):
    """Raised to refuse a header."""


def _read_header(file: RegularFile) -> tuple[int, dict[str, Any]]:
    """Return the offset of the data, and the header."""
    if file.size < 8:
        raise _BadHeaderError(f"expected a header's length of 8 bytes, got {file.size} bytes")
    length_ = bytearray(8)
    file.read_into(length_, 0)
    length = int.from_bytes(length_, "little")
    if length > _MAX_HEADER:
        raise _BadHeaderError(f"expected a header of at most {_MAX_HEADER} bytes, got {length}")
    if length > file.size - 8:
        raise _BadHeaderError(f"expected a header of {length} bytes, got {file.size - 8}")
    text = bytearray(length)
    file.read_into(text, 8)
    if text[:1] != b"{":
        raise _BadHeaderError("expected a header that begins with a brace")
    if length > _MAX_NOT_ASCII and not text.isascii():
        raise _BadHeaderError(f"expected ASCII in a header of more than {_MAX_NOT_ASCII} bytes")
    header = parse_json(text, file.path, file.refusal, max_values=_MAX_VALUES, max_depth=3)
    if len(header) > _MAX_ARRAYS:
        raise _BadHeaderError(f"expected at most {_MAX_ARRAYS} arrays, got {len(header)}")
    return 8 + length, header


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _BadHeaderError(f"expected {_METADATA} of strings, got {show(value)}")
    return value


def _entry(name: str, value: object) -> _Entry:
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(value, dict) or set(value) != keys:
        raise _BadHeaderError(f"{show(name)}: expected dtype, shape and data_offsets alone")
    dtype = _READ.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise _BadHeaderError(
            f"{show(name)}: expected a type of {', '.join(_READ)}, got {show(value['dtype'])}"
        )
    shape, offsets = value["shape"], value["data_offsets"]
    if not _are_counts(shape) or len(shape) > _MAX_AXES:
        raise _BadHeaderError(
            f"{show(name)}: expected a shape of up to {_MAX_AXES} counts, got {show(shape)}"
        )
    if not _are_counts(offsets) or len(offsets) != 2:
        raise _BadHeaderError(f"{show(name)}: expected two offsets, got {show(offsets)}")
    start, end = offsets
    # NumPy multiplies the axes that are not empty, whether or not another is
    if math.prod(n or 1 for n in shape) * dtype.itemsize >= 2**63:
        raise _BadHeaderError(f"{show(name)}: the shape {show(shape)} is too large")
    if math.prod(shape) * dtype.itemsize != end - start:
        raise _BadHeaderError(
            f"{show(name)}: expected {math.prod(shape) * dtype.itemsize} bytes for its shape and "
            f"type, got offsets {start} to {end}"
        )
    return _Entry(dtype, tuple(shape), start, end, value["dtype"] == _BFLOAT16)


def _are_counts(value: object) -> bool:
    """Return True for a list of integers from 0 to 2^63 - 1; True and 1.0 are none."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_offsets(entries: Mapping[str, _Entry], size: int) -> None:
    """Check that the arrays cover the data without gaps, overlaps or remainder."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end:
            raise _BadHeaderError(
                f"{show(name)}: expected data from byte {end} on, where the array before ends, got "
                f"{entry.start}"
            )
        end = entry.end
    if end != size:
        raise _BadHeaderError(f"expected {end} bytes of arrays, got {size}")
