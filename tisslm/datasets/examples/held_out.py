"""The records of a path, or those of them that are held out, whatever a record is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from os import PathLike
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from tisslm.datasets.encoding import GrowingArray
from tisslm.datasets.sources.options import BadRecords, ReadOptions
from tisslm.errors import DataError

__all__ = ["RecordSource", "Records", "name_of_records"]

#: Where records are: a file or folder, or the records themselves.
Records = str | PathLike[str] | Sequence[Mapping[str, Any]]


class _Keyed(Protocol):
    """What is read: it says by which text it is held out."""

    @property
    def key(self) -> str: ...


T = TypeVar("T", bound=_Keyed)


def name_of_records(path: Records) -> str:
    """Return what messages call the records of a path."""
    return str(path) if isinstance(path, str | PathLike) else "records"


@dataclass(frozen=True)
class RecordSource(Generic[T]):
    """The records of a path, or a part of them.

    Which are held out, their keys tell, such as an anchor or a prompt: no text is the key of
    records on both sides. The choice depends on no seed, so another run validates on the same ones.

    Attributes
    ----------
    path : str, path-like, or sequence of mappings
    read : callable
        Given options, it yields all of them.
    options : ReadOptions
    what : str
        What messages call one, and what all of them may have in common.
    valid_fraction : float
        The share that is held out.
    valid_examples : int
        How many are held out, in place of a share; 0 leaves it to that. Those of one key stay
        together, so there may be a few more.
    held_out : bool or None
        True for those held out, False for the others, None for all.
    """

    path: Records
    read: Callable[[ReadOptions], Iterator[T]]
    options: ReadOptions = field(default_factory=ReadOptions)
    what: tuple[str, str] = ("an example", "anchor")
    valid_fraction: float = 0.0
    valid_examples: int = 0
    held_out: bool | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        part = {None: "", False: ", training part", True: ", validation part"}[self.held_out]
        return f"{name_of_records(self.path)}{part}"

    def examples(self) -> Iterator[T]:
        """Yield the records of the part, in the order of the file.

        Raises
        ------
        DataError
            If there are none, or one is bad and bad records are errors.
        """
        if self.held_out is None:
            yield from self.read(self.options)
            return
        bound, found = self.bound, 0
        for record in self.read(self.options):
            if (_key(record) <= bound) == self.held_out:
                found += 1
                yield record
        if not found:
            one, key = self.what
            raise DataError(
                f"{self.name}: expected {one}, got none, since all have one {key}; give "
                "more of them, or set data.valid_fraction to 0"
            )

    def part(self, *, held_out: bool) -> RecordSource[T]:
        """Return the records that are held out, or the others, of the same choice."""
        bad = BadRecords(self.options.bad.policy, quiet=True)  # they were told of before
        found = replace(self, held_out=held_out, options=replace(self.options, bad=bad))
        found.__dict__["bound"] = self.bound
        return found

    @cached_property
    def bound(self) -> int:
        """The largest key of a record that is held out, -1 if none is; all are read for it."""
        keys = GrowingArray(np.dtype(np.uint64))
        bad = BadRecords(self.options.bad.policy, quiet=True)
        for record in self.read(replace(self.options, bad=bad)):
            keys.extend([_key(record)])
        found = keys.taken()
        share = Fraction(str(float(self.valid_fraction)))
        wanted = self.valid_examples
        if not wanted and share:
            wanted = max(1, round(len(found) * share))
        if wanted >= len(found):
            raise DataError(
                f"{name_of_records(self.path)}: expected more examples than the {wanted} to hold "
                f"out, got {len(found)}; set data.valid_examples, or data.valid_fraction, to less"
            )
        return int(np.partition(found, wanted - 1)[wanted - 1]) if wanted else -1


def _key(record: _Keyed) -> int:
    """Return a number by which records are held out."""
    digest = hashlib.blake2b(record.key.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
