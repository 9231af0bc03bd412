"""Rows of tokens as datasets give them: arrays by name, of one row or of several.

What a pass through a model gets, with the weight of each target, is ``tisslm.contracts.Batch``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts.batch import Batch
from tisslm.errors import DataError

__all__ = ["Rows", "check_rows"]

Array = NDArray[Any]

#: The arrays of ids, in the order in which rows are unpacked; all have one shape.
IDS = ("x", "y", "start")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Inputs and targets of one row, of shape (T,), or of several rows, of shape (B, T).

    Code of TissLM asks for arrays by name. Unpacking is for loops of one's own: ``x, y = rows`` and
    ``train_step(*rows)`` see x, y and, where there is one, start.

    Attributes
    ----------
    x, y : integer ndarray of shape (T,) or (B, T)
        Inputs and targets; a target of -100 is none.
    start : integer ndarray of the same shape, optional
        Position in its row at which the document of each token begins. None: a row is one document.
    others : mapping of str to ndarray
        What the model or the loss needs beside these, by names of its own; of several rows, the
        first axis counts the rows.

    Examples
    --------
    >>> tokens = np.arange(9, dtype=np.int32)
    >>> row = Rows(tokens[:-1], tokens[1:])
    >>> Rows.stack([row, row]).x.shape
    (2, 8)
    """

    x: Array
    y: Array
    start: Array | None = None
    others: Mapping[str, Array] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Array]:
        yield self.x
        yield self.y
        if self.start is not None:
            yield self.start

    # ------------------------------------------------------------------ by name

    @property
    def arrays(self) -> dict[str, Array]:
        """Every array by its name: x, y, start where there is one, then the others."""
        start = {} if self.start is None else {"start": self.start}
        return {"x": self.x, "y": self.y, **start, **self.others}

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Rows:
        """Return the rows whose ``arrays`` these are."""
        others = {name: array for name, array in arrays.items() if name not in IDS}
        return cls(arrays["x"], arrays["y"], arrays.get("start"), others)

    @staticmethod
    def stack(windows: Sequence[Rows]) -> Rows:
        """Return single rows as several, in new arrays.

        Raises
        ------
        DataError
            If one is no ``Rows``, or if names or shapes of their arrays differ.
        """
        found = [check_rows(window, "dataset.window").arrays for window in windows]
        first = found[0]
        for arrays in found:
            if arrays.keys() != first.keys():
                raise DataError(
                    "dataset.window: expected the same arrays of every window, got "
                    f"{', '.join(first)} of one and {', '.join(arrays)} of another; return them "
                    "for all (start: zeros where a window is one document)"
                )
            for name, array in arrays.items():
                if array.shape != first[name].shape:
                    raise DataError(
                        f"dataset.window: expected {name} of one shape in every window, got "
                        f"{first[name].shape} and {array.shape}; return windows of seq_len tokens"
                    )
        return Rows.of({name: np.stack([arrays[name] for arrays in found]) for name in first})

    # ------------------------------------------------------------------ some of several rows

    def row(self, i: int) -> Rows:
        """Return one of several rows, as views."""
        return self._each(lambda array: array[i])

    def part(self, first: int, stop: int) -> Rows:
        """Return those of several rows from ``first`` up to ``stop``, as views."""
        return self._each(lambda array: array[first:stop])

    def copy(self) -> Rows:
        """Return the same rows in new arrays."""
        return self._each(np.copy)

    def _each(self, change: Callable[[Array], Array]) -> Rows:
        start = None if self.start is None else change(self.start)
        others = {name: change(array) for name, array in self.others.items()}
        return Rows(change(self.x), change(self.y), start, others)

    def weighed(self, weights_BT: Array) -> Batch:
        """Return several rows as what a pass gets.

        Parameters
        ----------
        weights_BT : ndarray of shape (B, T), float
            What each target counts.
        """
        return Batch(self.x, self.y, weights_BT, self.start, self.others)


def check_rows(found: object, where: str) -> Rows:
    """Return what a dataset gave, if it is ``Rows``.

    Parameters
    ----------
    found : object
    where : str
        What the message begins with.

    Raises
    ------
    DataError
        If it is something else, such as a tuple, or if one of ``others`` has the name of an array
        of ids.
    """
    if not isinstance(found, Rows):
        raise DataError(
            f"{where}: expected tisslm.contracts.Rows, got {type(found).__name__}; return "
            "Rows(x, y), or Rows(x, y, start) where rows hold several documents"
        )
    taken = [name for name in IDS if name in found.others]
    if taken:
        raise DataError(
            f"{where}: expected others of names beside {', '.join(IDS)}, got {taken[0]!r}; give it "
            f"as Rows({taken[0]}=...), or another name"
        )
    return found
