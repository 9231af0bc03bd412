"""Operations of ``tisslm.ops`` replaced, for a while, by ones that count or take their time.

Layers call operations as attributes of ``ops``, so that one place sees every call.

What does not live here: how much work a call is (``work``), whole steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from work import flops, named, nbytes, operations, part_of

from tisslm import ops

__all__ = ["Part", "counting", "replaced", "timing"]


@dataclass
class Part:
    """One part of a step: sums over the calls of one update.

    Attributes
    ----------
    calls, flops, nbytes : int
    seconds : list of float
        One figure for each round.
    """

    calls: int = 0
    flops: int = 0
    nbytes: int = 0
    seconds: list[float] = field(default_factory=list)


@contextmanager
def replaced(make: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Replace every operation by what ``make(name, operation)`` returns, for a while."""
    originals = operations()
    try:
        for name, op in originals.items():
            setattr(ops, name, make(name, op))
        yield
    finally:
        for name, op in originals.items():
            setattr(ops, name, op)


def counting(parts: dict[str, Part]) -> Callable[..., Callable[..., Any]]:
    """Return what ``replaced`` takes to count calls and work."""

    def make(name: str, op: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> None:
            part, arguments = parts.setdefault(part_of(name), Part()), named(op, args, kwargs)
            part.calls += 1
            part.flops += flops(name, arguments)
            part.nbytes += nbytes(name, arguments)
            op(*args, **kwargs)

        return counted

    return make


def timing(seconds: dict[str, float]) -> Callable[..., Callable[..., Any]]:
    """Return what ``replaced`` takes to add up the seconds of each part."""

    def make(name: str, op: Callable[..., Any]) -> Callable[..., Any]:
        part = part_of(name)

        def timed(*args: Any, **kwargs: Any) -> None:
            start = perf_counter()
            op(*args, **kwargs)
            seconds[part] += perf_counter() - start

        return timed

    return make
