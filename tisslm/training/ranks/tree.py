r"""In which order the gradients of an update are added: a binary tree over its leaves.

An update is cut into leaves, which are numbered. Within a leaf, each micro-batch goes on from the
sum of those before it. The sums of leaves are added two by two, then the sums of these, and so on;
what has no neighbour goes up as it is:

    0   1   2   3   4
     \ /     \ /    |
      +       +     |
       \_____/      |
          +         |
           \_______/
               +

The tree depends on the number of leaves alone. A rank has a contiguous run of them and adds what
it has both halves of; whoever collects the results goes on where the ranks have stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Fold", "Node", "nodes_of"]

T = TypeVar("T")


class Node(NamedTuple):
    """The sum of the leaves ``number * 2**level`` to ``(number + 1) * 2**level - 1``."""

    level: int
    number: int

    @property
    def is_right(self) -> bool:
        """Whether it is the second half of the node above it."""
        return self.number % 2 == 1

    @property
    def left(self) -> Node:
        """The first half, of which it is the second."""
        return Node(self.level, self.number - 1)

    @property
    def above(self) -> Node:
        """The node that it is a half of."""
        return Node(self.level + 1, self.number // 2)


class Fold(Generic[T]):
    """Adds nodes that come in the order of their leaves, as soon as both halves are there.

    Parameters
    ----------
    add : callable
        Takes the first half and the second, and returns their sum; it may overwrite either.
    keep : callable, optional
        Is given what has to wait for its second half, and returns what is kept meanwhile.
    """

    def __init__(self, add: Callable[[T, T], T], keep: Callable[[T], T] | None = None) -> None:
        self._add = add
        self._keep = keep
        self._waiting: list[tuple[Node, T]] = []

    def put(self, node: Node, value: T, *, last: bool = False) -> None:
        """Take the next node.

        Parameters
        ----------
        node : Node
        value : T
        last : bool
            Whether none follows it, so that nothing can overwrite it and it need not be kept.
        """
        while self._waiting and node.is_right and self._waiting[-1][0] == node.left:
            value = self._add(self._waiting.pop()[1], value)
            node = node.above
        if self._keep is not None and not last:
            value = self._keep(value)
        self._waiting.append((node, value))

    def split(self, node: Node) -> tuple[list[T], list[T]]:
        """Tell what the next node, which is the last, leaves as it is, and what is added to it.

        Returns
        -------
        whole : list
            What waits on, in the order of leaves.
        added : list
            Each is a first half of what the node has become; the last waited longest.
        """
        whole, added = list(self._waiting), []
        while whole and node.is_right and whole[-1][0] == node.left:
            added.append(whole.pop()[1])
            node = node.above
        return [value for _, value in whole], added

    def nodes(self) -> list[tuple[Node, T]]:
        """Return what could not be added here, in the order of leaves."""
        return list(self._waiting)

    def total(self) -> T:
        """Return the sum of all: what lacks its second half has the sum of its first."""
        _, value = self._waiting.pop()
        while self._waiting:
            value = self._add(self._waiting.pop()[1], value)
        return value


def nodes_of(leaves: Iterable[int]) -> list[Node]:
    """Return the nodes that a rank is left with which has these leaves, a run of numbers."""
    fold: Fold[None] = Fold(lambda left, right: None)
    for leaf in leaves:
        fold.put(Node(0, leaf), None)
    return [node for node, _ in fold.nodes()]
