"""Small things that all ranks must know alike: counts, sums of losses, what rank 0 has decided."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Communicator, Rows
from tisslm.errors import ConfigError, RanksError, TissLMError

__all__ = [
    "all_say",
    "array_of_ranks",
    "check_alike",
    "check_weights",
    "counts_of_ranks",
    "first_says",
    "rows_of_all",
    "rows_of_ranks",
    "sum_in_order",
]


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


def all_say(communicator: Communicator, value: Any) -> list[Any]:
    """Return what every rank has, in the order of ranks.

    Parameters
    ----------
    communicator : Communicator
    value : plain JSON value
        This rank's.
    """
    return [json.loads(said) for said in communicator.all_gather(json.dumps(value).encode())]


def check_alike(communicator: Communicator, facts: Mapping[str, Any]) -> None:
    """Refuse ranks that are not of one run.

    Parameters
    ----------
    communicator : Communicator
    facts : mapping
        Plain JSON values that have to be the same on all ranks, by what messages call them;
        nested tables are looked into.

    Raises
    ------
    ConfigError
        On all ranks, if one differs from rank 0: the first fact that does, with both values.
    """
    said = all_say(communicator, [socket.gethostname(), _flat(facts)])
    host, first = said[0]
    for rank, (other_host, other) in enumerate(said):
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise _together(
                    communicator,
                    ConfigError,
                    f"ranks: expected {name} to be the same on all, got {first.get(name)!r:.80} "
                    f"on rank 0 ({host}) and {other.get(name)!r:.80} on rank {rank} "
                    f"({other_host}); start all with the same version, configuration and data",
                )


def _flat(facts: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested tables as one, by dotted names."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        inner = _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {}
        found |= inner or {f"{before}{name}": value}
    return found


def check_weights(communicator: Communicator, flat_P: NDArray[Any], step: int) -> None:
    """Make sure that all ranks have the same parameters.

    Parameters
    ----------
    communicator : Communicator
    flat_P : ndarray
    step : int
        For the message.

    Raises
    ------
    RanksError
        On all ranks, if one differs: which, of those that most do not agree with.
    """
    own = [socket.gethostname(), hashlib.sha256(flat_P.view(np.uint8).data).hexdigest()]
    said = all_say(communicator, own)
    hashes = [digest for _, digest in said]
    usual = max(hashes, key=hashes.count)
    others = [f"{rank} ({host})" for rank, (host, digest) in enumerate(said) if digest != usual]
    if others:
        raise _together(
            communicator,
            RanksError,
            f"step {step}: the parameters of rank {', '.join(others)} differ from those of the "
            "others, which must never be; look at that machine's memory and network, and go on "
            "from the last checkpoint with --resume auto",
        )


def _together(communicator: Communicator, kind: type[TissLMError], message: str) -> TissLMError:
    """Return an error that all ranks raise, and the first one tells."""
    error = kind(message)
    error.is_told = communicator.rank > 0
    return error


def array_of_ranks(communicator: Communicator, own: NDArray[Any]) -> NDArray[Any]:
    """Return the arrays of all ranks one after another along the first axis.

    Parameters
    ----------
    communicator : Communicator
    own : ndarray
        This rank's, which may be empty.
    """
    if communicator.size == 1:
        return own
    found = communicator.all_gather(np.ascontiguousarray(own).tobytes())
    flat = np.concatenate([np.frombuffer(data, own.dtype) for data in found])
    return flat.reshape(-1, *own.shape[1:])


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
    arrays = rows.arrays.items()
    return Rows.of({name: array_of_ranks(communicator, array) for name, array in arrays})


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
