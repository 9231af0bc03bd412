"""Who is told of every op: profiles, and the search for the op that made the first NaN.

``ops`` calls a watcher around each kernel or twin. There is one list for the process, as there is
one pool of threads; it is empty outside of ``watching``, and an op then costs one test more.

What does not live here: the ops, and any watcher.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Watcher", "watchers", "watching"]


class Watcher:
    """Is told before and after each op; the base does nothing.

    What a method raises goes to whoever called the op.
    """

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        """Look at an op that is about to run: its name, its arrays and numbers in order."""

    def after(self, op: str, args: tuple[Any, ...]) -> None:
        """Look at an op that has run; its results are in arrays of ``args``."""


_watchers: tuple[Watcher, ...] = ()


def watchers() -> tuple[Watcher, ...]:
    """Return those that are told now, in the order in which they came."""
    return _watchers


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher of every op of this process for a while.

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
