"""From the gradients of leaves to the one that an update is made with, and on one rank how.

Several ranks do it in ``shared``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.memory import Arena, Parameters
from tisslm.memory.shards import ParameterShard
from tisslm.training.ranks.share import Share
from tisslm.training.ranks.tree import Fold, Node

__all__ = ["Exchanged", "Reduction", "SoleReduction", "waiting_arrays"]

Array = NDArray[Any]


class Exchanged(NamedTuple):
    """A bucket that was exchanged with other ranks.

    Attributes
    ----------
    what : str
        "gradients" or "weights".
    start, end : int
        Nanoseconds of ``time.perf_counter_ns``.
    """

    what: str
    start: int
    end: int


class Reduction(ABC):
    """Adds up what leaves leave in the gradient, and knows what the optimizer updates.

    Parameters
    ----------
    parameters : Parameters
        Of the model, whose gradient each leaf is computed in.
    share : Share
    """

    def __init__(self, parameters: Parameters, share: Share) -> None:
        self.parameters = parameters
        self.share = share
        self._waiting = _Waiting(parameters)
        self._fold: Fold[Array] = Fold(self._waiting.add, self._waiting.keep)

    def take_exchanged(self) -> Sequence[Exchanged]:
        """Return what was exchanged with other ranks since this was called last."""
        return ()

    def overlapped(self) -> AbstractContextManager[None]:
        """Return a context in which updated parameters may come back while the run goes on.

        Whoever asks for values that are not there yet waits for them. At its end, all are there; if
        an error ends it, they are still waited for by whoever asks.
        """
        return nullcontext()

    @property
    @abstractmethod
    def updated(self) -> Parameters | ParameterShard:
        """What the optimizer is to update on this rank."""

    def begin(self, present: int) -> None:
        """Begin an update of so many leaves, of all ranks; what one before it has left is dropped.

        A run that is asked to leave does so between two micro-batches, and may go on later.

        Parameters
        ----------
        present : int
        """
        for _, value in self._fold.nodes():
            if value is not self.parameters.grad_arena:
                self._waiting.take_back(value)
        self._fold = Fold(self._waiting.add, self._waiting.keep)

    def announced(self, leaf: int) -> AbstractContextManager[None]:
        """Return a context for the last pass of this rank's last leaf.

        Within it, gradients may be taken as soon as the pass is done with them.
        """
        return nullcontext()

    def add_leaf(self, leaf: int, *, last: bool) -> None:
        """Take the gradient that a leaf has left.

        Parameters
        ----------
        leaf : int
            They come in ascending order.
        last : bool
            Whether it is this rank's last one of the update.
        """
        self._fold.put(Node(0, leaf), self.parameters.grad, last=last)

    def cut_into(self, parts: int) -> None:
        """Cut every update from here on into so many leaves."""
        self.share = replace(self.share, parts=parts)

    @abstractmethod
    def finish(self) -> None:
        """Leave the sum over all leaves in the gradient of what is updated."""

    @abstractmethod
    def publish(self) -> None:
        """Give all ranks the parameters that were updated: at once, unless ``overlapped``."""

    @abstractmethod
    def reread(self) -> None:
        """Take what is updated from the parameters as they are, whoever has set them."""

    @abstractmethod
    def publish_gradient(self) -> None:
        """Give all ranks the whole gradient, for those who look at it."""

    @abstractmethod
    def whole_state(self, own: Mapping[str, Array], what: str = "") -> Mapping[str, Array]:
        """Return a state of all ranks that lies like what is updated, of what this rank's has.

        Parameters
        ----------
        own : mapping of str to ndarray
        what : str
            Whose it is; different for all that are gathered at the same time.
        """

    @abstractmethod
    def own_part(self, name: str, array: Array) -> Array | None:
        """Return what this rank has of an array of a whole state; None for nothing.

        Parameters
        ----------
        name : str
        array : ndarray
        """


class _Waiting:
    """The sums that wait for their second half, while the gradient's own array is written again."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._free: list[Array] = []

    def keep(self, grad_P: Array) -> Array:
        """Return a copy, in an array that no other sum waits in."""
        kept_P = self._free.pop() if self._free else self._new()
        np.copyto(kept_P, grad_P)
        return kept_P

    def add(self, left_P: Array, right_P: Array) -> Array:
        """Add a sum that has waited to one that lies in the gradient's own array."""
        ops.add(right_P, left_P)
        self._free.append(left_P)
        return right_P

    def take_back(self, kept_P: Array) -> None:
        """Let an array be used again."""
        self._free.append(kept_P)

    def _new(self) -> Array:
        like_P = self._parameters.grad_arena
        return Arena(like_P.nbytes).take(like_P.shape, like_P.dtype)


@final
class SoleReduction(Reduction):
    """One rank has all leaves: their sum ends in the gradient of the model's parameters."""

    @property
    def updated(self) -> Parameters:
        """The parameters."""
        return self.parameters

    def finish(self) -> None:
        """Add what still waits."""
        self._fold.total()

    def publish(self) -> None:
        """Do nothing: the parameters are updated where they are read."""

    def reread(self) -> None:
        """Do nothing: the parameters are updated where they are."""

    def publish_gradient(self) -> None:
        """Do nothing: the gradient is where it is looked at."""

    def whole_state(self, own: Mapping[str, Array], what: str = "") -> Mapping[str, Array]:
        """Return it."""
        return own

    def own_part(self, name: str, array: Array) -> Array:
        """Return all of it."""
        return array


def waiting_arrays(share: Share) -> int:
    """Return how many copies of the gradient wait at once on the rank of a share, at most."""
    most, waiting = 0, 0
    fold: Fold[None] = Fold(lambda left, right: None)
    for leaf in share.leaves:
        fold.put(Node(0, leaf), None)
        waiting = len(fold.nodes()) - (leaf == share.leaves[-1])
        most = max(most, waiting)
    return most
