"""Conformance of communicators: what ``tisslm.contracts.Communicator`` asks of every one.

Every rank of the run calls the check at the same place, one rank where there is one process.

What does not live here: starting processes.
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
        What it is built with. Left out: ``cls.test_options``, or its defaults.
    name : str, optional
        What messages call it.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that does not hold.
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
    """Check that whole numbers add up exactly, and that one rank changes no bit."""
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
    """Check that sums are added in an order that depends on nothing else."""
    rng = np.random.default_rng(comm.rank)
    own = rng.standard_normal(777, dtype=np.float32)
    first, again = own.copy(), own.copy()
    comm.sum_gradients(first)
    comm.sum_gradients(again)
    checks.same(again, first, "the same sum again")
    if comm.size == 1:
        checks.same(first, own, "the sum on one rank")


def broadcast_gives_rank_0s_values(checks: Checks, comm: Communicator) -> None:
    """Check that every rank ends with what rank 0 had."""
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
