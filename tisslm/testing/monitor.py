"""Conformance of monitors: what ``tisslm.contracts.Monitor`` asks of every one.

What does not live here: what any monitor measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Monitor
from tisslm.testing.checks import Checks, Report, keeps_final_methods
from tisslm.testing.examples import normal, option_sets

__all__ = ["check_monitor"]

Array = NDArray[Any]
Make = Callable[[], Monitor]

#: What a monitor may ask to be shown.
WANTS = frozenset({"activations", "attention", "gradients", "updates", "weights"})

#: Shapes of the arrays of a pass, by the site that they come from.
SITES: Mapping[str, tuple[int, ...]] = {
    "blocks.0.mlp.up.weight": (8, 4),
    "blocks.0.mlp.up.bias": (8,),
    "blocks.1.attention": (2, 5, 12),
    "blocks.1.attention.probabilities": (2, 3, 5, 5),
}


def check_monitor(
    cls: type[Monitor], *, options: Mapping[str, Any] | None = None, name: str = ""
) -> Report:
    """Check that a monitor class keeps its contract.

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
    checks = Checks(name or f"monitor {cls.__name__}", Monitor)
    checks.run(keeps_final_methods, cls)
    checks.run(wants_what_there_is, cls)
    for chosen in option_sets(cls, options):

        def make(chosen: Mapping[str, Any] = chosen) -> Monitor:
            return cls(**chosen)

        for prop in PROPERTIES:
            checks.run(prop, make, options=chosen)
    return checks.report()


def wants_what_there_is(checks: Checks, cls: type[Monitor]) -> None:
    """Check that ``wants`` is a frozenset of known kinds of array, at least one."""
    wants = cls.wants
    checks.that(isinstance(wants, frozenset), "wants to be a frozenset", type(wants).__name__)
    checks.that(bool(wants) and wants <= WANTS, f"wants of {sorted(WANTS)}", sorted(wants))


def show(monitor: Monitor, arrays: Mapping[str, Array]) -> None:
    """Show read-only views of arrays to a monitor."""
    for site, array in arrays.items():
        view = array.view()
        view.flags.writeable = False
        monitor.observe(site, view)


def arrays_of(dtype: str, seed: int = 0) -> dict[str, Array]:
    """Return an array for each site."""
    rng = np.random.default_rng(seed)
    return {site: normal(rng, shape).astype(dtype) for site, shape in SITES.items()}


def only_looks(checks: Checks, make: Make) -> None:
    """Check that ``observe`` changes no bit of what it is shown, contiguous or not."""
    for dtype in ("float32", "float64"):
        arrays = arrays_of(dtype)
        arrays["strided"] = normal(np.random.default_rng(1), (6, 10)).astype(dtype)[::2, 1::3]
        before = {site: array.copy() for site, array in arrays.items()}
        monitor = make()
        show(monitor, arrays)
        monitor.metrics()
        for site, array in arrays.items():
            checks.same(np.ascontiguousarray(array), before[site], f"the array of {site}")


def metrics_have_names(checks: Checks, make: Make) -> None:
    """Check that ``metrics`` is a mapping whose keys are text, also if nothing was seen."""
    monitor = make()
    for shown in (False, True, False):
        if shown:
            show(monitor, arrays_of("float32"))
        found = monitor.metrics()
        checks.that(isinstance(found, Mapping), "a mapping", type(found).__name__)
        unnamed = [key for key in found if not isinstance(key, str)]
        checks.that(not unnamed, "names that are str", unnamed[:1])


def keeps_no_view(checks: Checks, make: Make) -> None:
    """Check that what is written to the arrays after the call does not change the metrics."""
    first, second = make(), make()
    arrays = arrays_of("float32")
    show(first, arrays)
    expected = dict(first.metrics())
    show(second, arrays)
    for array in arrays.values():
        array[...] = np.nan
    found = dict(second.metrics())
    same_metrics(checks, found, expected)


def same_metrics(
    checks: Checks, found: Mapping[str, object], expected: Mapping[str, object]
) -> None:
    """Assert that two steps gave the same metrics, bit for bit."""
    checks.same(sorted(found), sorted(expected), "names of metrics")
    for key, value in expected.items():
        checks.same(np.asarray(found[key]), np.asarray(value), f"metric {key!r}")


def metrics_are_those_since_the_last_call(checks: Checks, make: Make) -> None:
    """Check that the same arrays give the same metrics in a later step."""
    monitor = make()
    results = []
    for seed in (0, 1, 0):
        show(monitor, arrays_of("float32", seed))
        results.append(dict(monitor.metrics()))
    same_metrics(checks, results[2], results[0])


PROPERTIES: tuple[Callable[[Checks, Make], None], ...] = (
    only_looks,
    metrics_have_names,
    keeps_no_view,
    metrics_are_those_since_the_last_call,
)
