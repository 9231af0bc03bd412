"""States of all ranks (the optimizer's, averaged weights) as one writes them to a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Communicator
from tisslm.memory import Parameters
from tisslm.memory.shards import ParameterShard, Range, elements_of
from tisslm.system.tensor_files import Kind, StreamedArrays

__all__ = ["GatheredArrays", "WholeArrays", "lead", "own_part"]

Array = NDArray[Any]
T = TypeVar("T")

#: What rank 0 tells the others when it wants no more.
DONE = b""


class GatheredArrays(StreamedArrays):
    """Arrays of which each rank has pieces, as rank 0 sees them: whole, one at a time.

    Rank 0 asks for arrays in any order, and calls ``close`` when it wants no more; meanwhile the
    others ``serve``. What is no array by parameter is rank 0's own.

    Parameters
    ----------
    own : mapping of str to ndarray
        This rank's, as ``ParameterShard.by_parameter`` names them; all that lie flat are of one
        dimension.
    parameters : Parameters
        The whole.
    ranges : sequence of sequence of (start, stop)
        What each rank has of the flat arrays.
    communicator : Communicator
        All ranks make one together.
    what : str
        Whose state it is: what tells it from others that are gathered at the same time.
    """

    def __init__(
        self,
        own: Mapping[str, Array],
        parameters: Parameters,
        ranges: Sequence[Sequence[Range]],
        communicator: Communicator,
        what: str = "",
    ) -> None:
        self.what = what
        self._own = own
        self._parameters = parameters
        self._ranges = ranges
        self._communicator = communicator
        self._told: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._kinds = self._agree()
        self._names = list(self._kinds)
        self._closed = False

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which asks."""
        return self._communicator.rank == 0

    def _agree(self) -> dict[str, Kind]:
        """Return shapes and types of the whole arrays, in the order of one rank alone."""
        kinds = [(name, a.dtype.str, a.shape) for name, a in self._own.items()]
        found = self._communicator.all_gather(json.dumps(kinds).encode())
        types: dict[str, str] = {}
        for rank, kinds_of_rank in enumerate(found):
            for name, dtype, shape in json.loads(kinds_of_rank):
                types[name] = dtype
                self._told[name] = rank, tuple(shape)
        common = {n: (self._own[n].shape, self._own[n].dtype) for n in types if "/" not in n}
        slots = dict.fromkeys(name.rpartition("/")[2] for name in types if "/" in name)
        by_parameter = {
            f"{p.name}/{slot}": (
                self._shape(f"{p.name}/{slot}", p.shape),
                np.dtype(types[f"{p.name}/{slot}"]),
            )
            for p in self._parameters
            for slot in slots
            if f"{p.name}/{slot}" in types
        }
        return common | by_parameter

    def _shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a whole array, by that of its parameter."""
        return shape

    def _places(self, name: str) -> list[list[slice]]:
        """Return which elements of an array each rank has."""
        parameter = self._parameters[name.rpartition("/")[0]]
        return [elements_of(parameter, ranges) for ranges in self._ranges]

    def kind(self, name: str) -> Kind:
        """Return shape and type of a whole array."""
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Array:
        if name not in self._kinds or "/" not in name:
            return self._own[name]
        self._communicator.all_gather(f"{self.what}\n{name}".encode())
        return self._gather(name)

    def serve(self, others: Sequence[GatheredArrays] = ()) -> None:
        """Give rank 0 what it asks for, of this and of others, until it closes."""
        known = {one.what: one for one in (self, *others)}
        while wanted := self._communicator.all_gather(DONE)[0]:
            what, _, name = wanted.decode().partition("\n")
            known[what]._gather(name)

    def close(self) -> None:
        """Tell the others that no more is wanted."""
        if not self._closed:
            self._closed = True
            self._communicator.all_gather(DONE)

    def _gather(self, name: str) -> Array:
        """Bring the pieces of an array together on rank 0."""
        shape, dtype = self._kinds[name]
        comm = self._communicator
        nothing = np.empty(0, dtype)
        own = np.ascontiguousarray(self._own.get(name, nothing)).reshape(-1)
        sent = [own] + [nothing] * (comm.size - 1)
        places = self._places(name)
        received = [
            np.empty(sum(place.stop - place.start for place in found), dtype)
            if comm.rank == 0
            else nothing
            for found in places
        ]
        comm.exchange(sent, received)
        whole = np.empty(math.prod(shape), dtype)
        if comm.rank == 0:
            for found, piece in zip(places, received, strict=True):
                _put(whole, found, piece)
        return whole.reshape(shape)


class WholeArrays(GatheredArrays):
    """The same, where each array is one rank's, whole, and of whatever shape it is there."""

    def _shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._told[name][1]

    def _places(self, name: str) -> list[list[slice]]:
        owner, shape = self._told[name]
        whole = [slice(0, math.prod(shape))]
        return [whole if rank == owner else [] for rank in range(self._communicator.size)]


def _put(whole: Array, places: list[slice], piece: Array) -> None:
    taken = 0
    for place in places:
        length = place.stop - place.start
        whole[place] = piece[taken : taken + length]
        taken += length


def own_part(shard: ParameterShard, name: str, array: Array) -> Array | None:
    """Return a shard's elements of an array of the whole; None if it has none.

    Parameters
    ----------
    shard : ParameterShard
    name : str
        ``<parameter>/<slot>``; any other is every rank's, whole.
    array : ndarray
    """
    parameter, slash, _ = name.rpartition("/")
    if not slash or parameter not in shard.whole:
        return array
    elements, flat = shard.elements(parameter), array.reshape(-1)
    if shard.shaped:
        return array if elements else None
    return np.concatenate([flat[part] for part in elements]) if elements else None


def lead(arrays: Iterable[object], action: Callable[[], T]) -> T | None:
    """Do something on rank 0 that asks for gathered arrays, which the others serve meanwhile.

    Parameters
    ----------
    arrays : iterable
        ``GatheredArrays``; anything else needs nobody to serve it.
    action : callable
        What is done; its result is returned on rank 0, and None elsewhere.
    """
    gathered = [one for one in arrays if isinstance(one, GatheredArrays)]
    if not gathered:
        return action()
    first, *others = gathered
    if not first.leads:
        first.serve(others)
        return None
    try:
        return action()
    finally:
        first.close()
