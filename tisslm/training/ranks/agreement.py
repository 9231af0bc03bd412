"""Small things that all ranks must know alike: counts, sums of losses, what rank 0 has decided."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tisslm.contracts import Communicator, Rows

__all__ = ["counts_of_ranks", "first_says", "rows_of_all", "rows_of_ranks", "sum_in_order"]


def counts_of_ranks(communicator: Communicator, counts: Sequence[int]) -> list[list[int]]:
    """Return the counts of every rank, in the order of ranks.

    Parameters
    ----------
    communicator : Communicator
    counts : sequence of int
        This rank's.
    """
    sent = np.array(counts, np.int64).tobytes()
    return [np.frombuffer(found, np.int64).tolist() for found in communicator.all_gather(sent)]


def rows_of_ranks(
    communicator: Communicator, rows: Iterable[Sequence[float]], width: int
) -> list[list[list[float]]]:
    """Return rows of numbers, by rank.

    Parameters
    ----------
    communicator : Communicator
    rows : iterable of sequence of float
        This rank's.
    width : int
        Numbers in each row.
    """
    own = np.array(list(rows), np.float64)
    found = communicator.all_gather(own.tobytes())
    return [np.frombuffer(data, np.float64).reshape(-1, width).tolist() for data in found]


def rows_of_all(communicator: Communicator, rows: Rows) -> Rows:
    """Return the rows of an update of which each rank has its own.

    Parameters
    ----------
    communicator : Communicator
    rows : Rows
        This rank's, or none, with arrays that may be empty.
    """
    if communicator.size == 1:
        return rows
    arrays = rows.arrays
    whole = {}
    for name, array in arrays.items():
        found = communicator.all_gather(np.ascontiguousarray(array).tobytes())
        flat = np.concatenate([np.frombuffer(data, array.dtype) for data in found])
        whole[name] = flat.reshape(-1, *array.shape[1:])
    return Rows.of(whole)


def sum_in_order(communicator: Communicator, terms: Sequence[float]) -> float:
    """Add numbers of all ranks one by one, those of rank 0 first: as one rank adds all of them.

    Parameters
    ----------
    communicator : Communicator
    terms : sequence of float
        This rank's, in order.
    """
    total = 0.0
    for found in communicator.all_gather(np.array(terms, np.float64).tobytes()):
        for term in np.frombuffer(found, np.float64).tolist():
            total += term
    return total


def first_says(communicator: Communicator, value: Any) -> Any:
    """Return what rank 0 has, on every rank.

    Parameters
    ----------
    communicator : Communicator
    value : plain JSON value
        Only rank 0's counts.
    """
    if communicator.size == 1:
        return value
    data = json.dumps(value).encode() if communicator.rank == 0 else b""
    return json.loads(communicator.all_gather(data)[0])
