"""Arrays that lie in several safetensors files, with an index of which is where.

The index, ``model.safetensors.index.json``, is no more trusted than the files: a file is named by
its name alone and lies beside it, and index and files have to name the same arrays.

References
----------
https://huggingface.co/docs/huggingface_hub/package_reference/serialization
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from tisslm.system.safe_files import CHECKPOINT, Refusal, RegularFile, show
from tisslm.system.strict_json import parse_json
from tisslm.system.tensor_files import Kind, Piece, StreamedArrays, TensorFile

__all__ = ["ShardedTensors"]

Array = NDArray[Any]

# What an index may have; models without experts have some 2,000 arrays.
_MAX_BYTES = 16 * 2**20
_MAX_ARRAYS = 2**16

_MAP = "weight_map"
_LONGEST = 255  # characters of a name
_ELSEWHERE = frozenset("/\\\0")  # no name has them


@final
class ShardedTensors(StreamedArrays):
    """The arrays of all files that an index names, each file opened when it is first needed.

    ``metadata.total_size`` is not used: it is a sum of sizes, which the files say themselves.

    Parameters
    ----------
    path : str or Path
        The index. It and the files may be symbolic links, as those of a cache are.
    refusal : Refusal
        Makes the exception for every error of index and files.

    Raises
    ------
    TissLMError
        If the index is none, or names a file that is not beside it; later, if a file is missing,
        is none of its format, or has other arrays than the index says.
    """

    def __init__(self, path: str | Path, refusal: Refusal = CHECKPOINT) -> None:
        self._path, self._refusal = Path(path), refusal
        with RegularFile(path, refusal, follow=True) as file:
            content = parse_json(
                file.read(_MAX_BYTES), path, refusal, max_values=_MAX_ARRAYS, max_depth=3
            )
        found = content.get(_MAP)
        if not isinstance(found, dict) or not found:
            raise refusal(path, f"expected {_MAP}, a table of names and files, got {show(found)}")
        self._names: dict[str, set[str]] = {}
        for name, shard in found.items():
            if not isinstance(shard, str) or shard not in self._names:
                self._names[self._checked(name, shard)] = set()
            self._names[shard].add(name)
        self._shards: dict[str, str] = found
        self._files: dict[str, TensorFile] = {}

    def _checked(self, name: str, shard: object) -> str:
        if not isinstance(shard, str) or not _is_beside(shard):
            reason = f"the name of a safetensors file beside it, got {show(shard)}"
            raise self._refusal(self._path, f"{_MAP}: {show(name)}: expected {reason}")
        return shard

    def _file(self, shard: str) -> TensorFile:
        """Return a file, opened and compared with the index."""
        if shard not in self._files:
            file = TensorFile(self._path.parent / shard, self._refusal, follow=True)
            said, there = self._names[shard], set(file)
            if said != there:
                name = min(said ^ there)
                what = "which the file lacks" if name in said else "which the index does not have"
                reason = f"expected the arrays that {self._path.name} has there, got {show(name)}"
                file.file.close()
                raise self._refusal(file.file.path, f"{reason}, {what}")
            self._files[shard] = file
        return self._files[shard]

    @cached_property
    def bfloat16(self) -> frozenset[str]:
        """The names of arrays of uint16 that have the bits of bfloat16; all files are opened."""
        return frozenset[str]().union(*(self._file(shard).bfloat16 for shard in self._names))

    def is_hollow(self) -> bool:
        """Return True if one of the files is sparse and larger than the memory of the machine."""
        return any(self._file(shard).file.is_hollow() for shard in self._names)

    def kind(self, name: str) -> Kind:
        """Return shape and type of an array without reading it."""
        return self._file(self._shards[name]).kind(name)

    def pieces(self, name: str) -> Iterator[Piece]:
        """Yield an array in blocks of rows."""
        return self._file(self._shards[name]).pieces(name)

    def __getitem__(self, name: str) -> Array:
        return self._file(self._shards[name])[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)


def _is_beside(shard: str) -> bool:
    """Return whether a text is the name of a file, and leads to no other folder."""
    stem = shard.removesuffix(".safetensors")
    return (
        stem != shard
        and len(shard) <= _LONGEST
        and stem.strip(".") != ""
        and _ELSEWHERE.isdisjoint(shard)
    )
