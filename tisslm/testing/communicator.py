"""Conformance checks of communicators, by the contract ``tisslm.contracts.Communicator``.

Every rank of the run makes the same call; a single process is one rank. Processes are started by
the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tisslm.contracts import Communicator
from tisslm.testing.checks import Checks, Report, keeps_final_methods
from tisslm.testing.examples import option_sets

__all__ = ["check_communicator"]


def check_communicator(
    cls: type[Communicator], *, options: Mapping[str, Any] | None = None, name: str = ""
) -> Report:
    """Check that a communicator class keeps its contract, on as many ranks as call this.

    Parameters
    ----------
    cls : type
    options : mapping, optional
        Options to build it with. By default ``cls.test_options``, or its own defaults.
    name : str, optional
        Its name in messages.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that fails.
    """
    checks = Checks(name or f"communicator {cls.__name__}", Communicator)
    checks.run(keeps_final_methods, cls)
    for chosen in option_sets(cls, options):
        comm = cls(**chosen)
        for prop in PROPERTIES:
            checks.run(prop, comm, options=chosen)
    return checks.report()


def has_a_rank_among_its_ranks(checks: Checks, comm: Communicator) -> None:
    """Check that ``0 <= rank < size``, the same at every call."""
    got = (comm.rank, comm.size)
    checks.that(all(int(n) == n for n in got), "integers", got)
    checks.that(0 <= comm.rank < comm.size, "0 <= rank < size", got)
    comm.barrier()
    checks.same((comm.rank, comm.size), got, "rank and size after a barrier")


def sums_of_scalars_are_exact(checks: Checks, comm: Communicator) -> None:
    """Check that whole numbers are summed exactly, and that a single rank changes no bit."""
    values = [1.0, -3.0, 2.0**40, 0.0]
    given = list(values)
    found = comm.sum_scalars(given)
    checks.same(list(found), [value * comm.size for value in values], "sums")
    checks.same(given, values, "the numbers given")
    checks.same(list(comm.sum_scalars([])), [], "sums of nothing")
    ranks = comm.sum_scalars([float(comm.rank)])
    checks.same(list(ranks), [comm.size * (comm.size - 1) / 2], "sum of the ranks")
    if comm.size == 1:
        checks.same(list(comm.sum_scalars([0.1, 1e-300])), [0.1, 1e-300], "sums on one rank")


def sums_of_gradients_are_exact(checks: Checks, comm: Communicator) -> None:
    """Check that an array of any length and float type is overwritten by the sum over the ranks."""
    for dtype in ("float32", "float64"):
        for length in (1, 5, 1000):
            own = np.arange(length, dtype=dtype) + comm.rank
            flat = own.copy()
            comm.sum_gradients(flat)
            total = np.arange(length, dtype=dtype) * comm.size + comm.size * (comm.size - 1) / 2
            checks.same(flat, total.astype(dtype), f"sums of {length} {dtype}")


def repeated_sums_have_the_same_bits(checks: Checks, comm: Communicator) -> None:
    """Check that the order of summation is the same every time."""
    rng = np.random.default_rng(comm.rank)
    own = rng.standard_normal(777, dtype=np.float32)
    first, again = own.copy(), own.copy()
    comm.sum_gradients(first)
    comm.sum_gradients(again)
    checks.same(again, first, "the same sum again")
    if comm.size == 1:
        checks.same(first, own, "the sum on one rank")


def broadcast_gives_rank_0s_values(checks: Checks, comm: Communicator) -> None:
    """Check that every rank ends with the values of rank 0."""
    for dtype in ("float32", "float64"):
        flat = np.full(9, 0.1 + comm.rank, dtype=dtype)
        comm.broadcast(flat)
        checks.same(flat, np.full(9, 0.1, dtype=dtype), "values after broadcast")


PROPERTIES: tuple[Callable[[Checks, Communicator], None], ...] = (
    has_a_rank_among_its_ranks,
    sums_of_scalars_are_exact,
    sums_of_gradients_are_exact,
    repeated_sums_have_the_same_bits,
    broadcast_gives_rank_0s_values,
)
