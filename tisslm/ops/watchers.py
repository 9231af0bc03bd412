"""Watchers, which are called before and after every operation: profiles, and the search for NaN.

There is one list of them for the process, as there is one pool of threads. It is empty outside of
``watching``; the cost of an operation is then one test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Watcher", "watchers", "watching"]


class Watcher:
    """The base class of watchers; its methods do nothing.

    An exception of a method is raised to the caller of the operation.
    """

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        """Look at an operation that is about to run, by its name and its positional arguments."""

    def after(self, op: str, args: tuple[Any, ...]) -> None:
        """Look at an operation that has run; its results are in arrays of ``args``."""


_watchers: tuple[Watcher, ...] = ()


def watchers() -> tuple[Watcher, ...]:
    """Return the watchers that are called now, in the order in which they were added."""
    return _watchers


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Have a watcher called for every operation of this process, within a ``with`` block.

    Parameters
    ----------
    watcher : Watcher
    """
    global _watchers  # a list for the process, as its threads are
    _watchers = (*_watchers, watcher)
    try:
        yield
    finally:
        _watchers = tuple(one for one in _watchers if one is not watcher)
