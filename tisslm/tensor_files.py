"""Arrays in safetensors files, written and read one at a time.

A file is the length of its header, the header in JSON and the arrays' bytes. The library that
defined the format writes from a copy of everything and reads into another, which would be the peak
of a run; here no array is copied to be written, and an array is mapped while it is used.

What does not live here: which arrays a checkpoint has, and where its files lie.

References
----------
https://github.com/huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import CheckpointError

__all__ = ["TensorFile", "array_blocks", "write_arrays"]

Array = NDArray[Any]

#: The format's names of NumPy's types.
_TYPES = {"bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64"}
_TYPES |= {
    f"{word}{n}": f"{word[0].upper()}{n}" for word in ("int", "uint") for n in (8, 16, 32, 64)
}
_NAMES = {name: dtype for dtype, name in _TYPES.items()}


def array_blocks(where: str, arrays: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    """Yield the content of a file of arrays, wide types first, so that each is aligned to its type.

    Parameters
    ----------
    where : str
        What messages call the file.
    arrays : mapping of str to ndarray
        Those that are contiguous are yielded as they lie, without a copy.

    Raises
    ------
    CheckpointError
        If an array has a type that the format does not have.
    """
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header, end = {}, 0
    for name in names:
        array = arrays[name]
        if array.dtype.name not in _TYPES:
            raise CheckpointError(
                f"{where}: {name} has type {array.dtype}, which safetensors files do not have; "
                f"keep it as one of {', '.join(_TYPES)}"
            )
        start, end = end, end + array.nbytes
        kind = {"dtype": _TYPES[array.dtype.name], "shape": list(array.shape)}
        header[name] = {**kind, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        whole = np.ascontiguousarray(arrays[name]).reshape(-1)  # no copy of what is contiguous
        yield whole.view(np.uint8).data


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to a file; one that must outlive a power failure is written by a checkpoint.

    Raises
    ------
    CheckpointError
        If an array has a type that the format does not have.
    """
    blocks = array_blocks(path.name, arrays)
    with path.open("wb") as file:
        file.writelines(blocks)


class TensorFile(Mapping[str, Array]):
    """The arrays of a file by name, each mapped when it is asked for.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError, SafetensorError
        If the file cannot be read, or is no whole file of this format.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, framework="np"):  # checks the header, and that the data are all there
            self._path = path
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            self._header: dict[str, Any] = json.loads(file.read(length))
        self._header.pop("__metadata__", None)
        self._start = 8 + length

    def __getitem__(self, name: str) -> Array:
        found = self._header[name]
        dtype, shape = np.dtype(_NAMES[found["dtype"]]), tuple(found["shape"])
        if 0 in shape:  # nothing to map
            return np.empty(shape, dtype)
        offset = self._start + found["data_offsets"][0]
        return np.memmap(self._path, dtype, "r", offset, shape or (1,)).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)
