"""Who is told where a pass is: monitors, profiles, and the search for the first NaN.

A model announces its parts in order. ``place`` is named as the parameters are: "embedding",
"blocks.0.attention", "blocks.0.mlp" (or "blocks.0", where the two stand side by side),
"final_norm", and "head" once for each chunk of rows.

What does not live here: any observer, and what a part does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from numpy.typing import NDArray

__all__ = ["Direction", "Observed", "PassObserver", "enter", "leave"]

Array = NDArray[Any]

#: "recompute" is a forward that activation checkpointing runs again in backward.
Direction = Literal["forward", "backward", "recompute"]


class PassObserver:
    """Is told of each part of a pass; the base does nothing. What a method raises ends the pass."""

    def enter(self, place: str, direction: Direction) -> None:
        """Take note that a part begins."""

    def leave(self, place: str, direction: Direction, arrays: Mapping[str, Array]) -> None:
        """Look at what a part has left; the arrays are the pass's own, and must not be written to.

        Parameters
        ----------
        place : str
        direction : Direction
        arrays : mapping of str to ndarray
            What the part keeps for backward by the names of its plan, in the storage type
            (uint16 has the bits of bfloat16), and ``stream`` after a forward, ``d_stream`` after
            a backward: the residual stream and the gradient by it, of shape (N, C). "head" has
            ``hidden`` and ``d_hidden`` of its chunk.
        """


class Observed:
    """A model that tells its observers when a part of a pass begins and ends."""

    observers: tuple[PassObserver, ...] = ()

    @contextmanager
    def observed(self, observer: PassObserver) -> Iterator[None]:
        """Tell an observer of every pass for a while.

        Parameters
        ----------
        observer : PassObserver
        """
        self.observers = (*self.observers, observer)
        try:
            yield
        finally:
            self.observers = tuple(one for one in self.observers if one is not observer)


def enter(observers: tuple[PassObserver, ...], place: str, direction: Direction) -> None:
    """Tell each observer that a part begins."""
    for observer in observers:
        observer.enter(place, direction)


def leave(
    observers: tuple[PassObserver, ...],
    place: str,
    direction: Direction,
    kept: Mapping[str, Array],
    **more: Array,
) -> None:
    """Tell each observer that a part is done, and what it has left."""
    if observers:
        arrays = {**kept, **more}
        for observer in observers:
            observer.leave(place, direction, arrays)
