"""Conformance checks of a compiled kernel: it agrees with its NumPy twin on any number of threads.

The twin itself is proved by ``check_gradients``, or by numbers that were computed by hand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.errors import PluginError
from tisslm.ops.door import OPERATIONS, Operation
from tisslm.testing.checks import Checks, Report

__all__ = ["check_kernel"]

Array = NDArray[Any]
Arguments = Mapping[str, Any]

THREADS = (1, 2, 3, 5, 7)
#: Guard elements before and after each array: one more than a vector of 16 floats.
GUARD = 17


def check_kernel(operation: Callable[..., None], *cases: Arguments, tolerance: float) -> Report:
    """Compare an operation's kernel with its twin.

    Parameters
    ----------
    operation : callable
        The result of ``tisslm.ops.register``.
    *cases : mapping of str to object
        Arguments by their names in the twin, with float arrays in float32. Give sizes of 1, odd
        sizes, and some that are larger than the share of a thread.
    tolerance : float
        The largest difference from the twin in float64, relative to the largest element.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        If the kernel differs from its twin or between numbers of threads, or writes beyond an array
        or to one that is not marked as written.
    PluginError
        If there is no kernel to check (``TISSLM_OPS=reference``), or no such operation.
    """
    known = OPERATIONS.get(getattr(operation, "__name__", ""))
    if known is None or known.run is not operation or ops.REFERENCE_ONLY:
        raise PluginError(
            f"check_kernel: expected an operation of tisslm.ops.register with a kernel, got "
            f"{operation!r:.200}{' under TISSLM_OPS=reference' if ops.REFERENCE_ONLY else ''}"
        )
    checks = Checks(f"kernel {known.twin.__name__!r}", object, see="tisslm.ops.register")
    threads = ops.thread_count()
    try:
        for case in cases:
            shown = {key: value for key, value in case.items() if not isinstance(value, np.ndarray)}
            checks.run(_every_array_is_marked, known, case, options=shown)
            checks.run(_kernel_and_twin_agree, known, case, tolerance, options=shown)
            checks.run(_bits_do_not_depend_on_threads, known, case, options=shown)
    finally:
        ops.set_threads(threads.count)
    return checks.report()


def _every_array_is_marked(checks: Checks, operation: Operation, case: Arguments) -> None:
    checks.same(list(case), list(inspect.signature(operation.twin).parameters), "arguments")
    arrays = {name for name, value in case.items() if isinstance(value, np.ndarray)}
    checks.same(sorted(arrays - operation.marks.arrays), [], "arrays without a mark")
    checks.that(bool(operation.marks.written), "an array marked OUT or IN/OUT", "none")


def _kernel_and_twin_agree(
    checks: Checks, operation: Operation, case: Arguments, tolerance: float
) -> None:
    got = _run(checks, operation, case, 2)
    expected = {
        name: _in_float64(value) if isinstance(value, np.ndarray) else value
        for name, value in case.items()
    }
    operation.twin(**expected)
    for name in _written(operation, case):
        checks.close(got[name], expected[name], name, tolerance)


def _bits_do_not_depend_on_threads(checks: Checks, operation: Operation, case: Arguments) -> None:
    one = _run(checks, operation, case, 1)
    for count in THREADS[1:]:
        again = _run(checks, operation, case, count)
        for name in _written(operation, case):
            checks.same(again[name], one[name], f"{name} on {count} threads")


def _written(operation: Operation, case: Arguments) -> list[str]:
    return [name for name in operation.marks.written if isinstance(case[name], np.ndarray)]


def _run(checks: Checks, operation: Operation, case: Arguments, n_threads: int) -> dict[str, Any]:
    """Run the kernel on guarded copies of arrays; those that it must not write are read-only."""
    ops.set_threads(n_threads)
    placed: dict[str, Any] = dict(case)
    guarded: dict[str, Array] = {}
    writable = operation.marks.written.keys() | operation.marks.scratch
    for name, value in case.items():
        if isinstance(value, np.ndarray):
            guarded[name] = np.zeros(value.size + 2 * GUARD, value.dtype)
            view = guarded[name][GUARD : GUARD + value.size].reshape(value.shape)
            view[...] = value
            view.flags.writeable = name in writable
            placed[name] = view
    operation.run(*placed.values())
    for name, buffer in guarded.items():
        for zone, where in ((buffer[:GUARD], "before"), (buffer[-GUARD:], "after")):
            checks.that(not zone.any(), f"nothing written {where} {name}", "other values")
    return placed


def _in_float64(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array.copy()
