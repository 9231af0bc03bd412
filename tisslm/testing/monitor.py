"""Conformance checks of monitors: they must keep the contract ``tisslm.contracts.Monitor``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Histogram, Monitor, Text
from tisslm.testing.checks import Checks, Report, keeps_final_methods
from tisslm.testing.examples import normal, option_sets

__all__ = ["check_monitor"]

Array = NDArray[Any]
Make = Callable[[], Monitor]
Seen = tuple[str, str]  # kind and site

#: The kinds of array that a monitor may want.
WANTS = frozenset({"activations", "attention", "gradients", "updates", "weights"})

PARAMETERS = {"blocks.0.mlp.up.weight": (8, 4), "blocks.0.mlp.up.bias": (8,)}

#: Shapes of the arrays that a monitor is shown, by kind and site.
SITES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "activations": {"embedding": (10, 12), "blocks.1.mlp.pre": (10, 48)},
    "attention": {"blocks.1.attention.entropy": (2, 3, 5)},
    "gradients": PARAMETERS,
    "updates": PARAMETERS,
    "weights": PARAMETERS,
}


def check_monitor(
    cls: type[Monitor], *, options: Mapping[str, Any] | None = None, name: str = ""
) -> Report:
    """Check that a monitor class keeps its contract.

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


def show(monitor: Monitor, arrays: Mapping[Seen, Array]) -> None:
    """Show a monitor read-only views of the arrays that it wants, one kind after the other."""
    turned = ""
    for (kind, site), array in arrays.items():
        if kind in monitor.wants:
            if kind != turned:
                monitor.turn_to(kind)
                turned = kind
            view = array.view()
            view.flags.writeable = False
            monitor.observe(site, view)


def arrays_of(dtype: str, seed: int = 0) -> dict[Seen, Array]:
    """Return an array for each kind and site."""
    rng = np.random.default_rng(seed)
    return {
        (kind, site): normal(rng, shape).astype(dtype)
        for kind, sites in SITES.items()
        for site, shape in sites.items()
    }


def only_looks(checks: Checks, make: Make) -> None:
    """Check that ``observe`` changes no bit of the arrays, contiguous or not."""
    for dtype in ("float32", "float64"):
        arrays = arrays_of(dtype)
        wide = normal(np.random.default_rng(1), (6, 10)).astype(dtype)
        arrays |= {(kind, "strided"): wide[::2, 1::3] for kind in sorted(WANTS - {"attention"})}
        before = {seen: array.copy() for seen, array in arrays.items()}
        monitor = make()
        show(monitor, arrays)
        monitor.metrics()
        for (kind, site), array in arrays.items():
            unchanged = before[kind, site]
            checks.same(np.ascontiguousarray(array), unchanged, f"the {kind} of {site}")


def looks_at_any_number(checks: Checks, make: Make) -> None:
    """Check that infinities and NaN are accepted: monitors are needed most when they occur."""
    for bad in (np.nan, np.inf, -np.inf):
        monitor, arrays = make(), arrays_of("float32")
        for array in arrays.values():
            array.flat[0] = bad
        show(monitor, arrays)
        found = monitor.metrics()
        checks.that(isinstance(found, Mapping), "a mapping", type(found).__name__)


def takes_pieces(checks: Checks, make: Make) -> None:
    """Check that activations shown in pieces, as passes do, have the metrics of the whole."""
    whole, pieces = make(), make()
    arrays = arrays_of("float32")
    show(whole, arrays)
    for rows in (slice(0, 4), slice(4, None)):
        show(pieces, {seen: array[rows] for seen, array in arrays.items() if _in_rows(seen)})
    show(pieces, {seen: array for seen, array in arrays.items() if not _in_rows(seen)})
    expected, found = sorted(whole.metrics()), sorted(pieces.metrics())
    checks.that(found == expected, f"the metrics {expected}", found)


def _in_rows(seen: Seen) -> bool:
    return seen[0] == "activations"


def metrics_have_names(checks: Checks, make: Make) -> None:
    """Check that ``metrics`` is a mapping with text as keys, also if nothing was observed."""
    monitor = make()
    for shown in (False, True, False):
        if shown:
            show(monitor, arrays_of("float32"))
        found = monitor.metrics()
        checks.that(isinstance(found, Mapping), "a mapping", type(found).__name__)
        unnamed = [key for key in found if not isinstance(key, str)]
        checks.that(not unnamed, "names that are str", unnamed[:1])


def metrics_are_values(checks: Checks, make: Make) -> None:
    """Check that each metric is a number, a ``Histogram`` or a ``Text``."""
    monitor = make()
    show(monitor, arrays_of("float32"))
    for name, value in monitor.metrics().items():
        kinds = (int, float, np.integer, np.floating, Histogram, Text)
        what = f"metric {name!r} to be a number, a Histogram or a Text"
        checks.that(isinstance(value, kinds), what, type(value).__name__)


def keeps_no_view(checks: Checks, make: Make) -> None:
    """Check that writing to the arrays after the call does not change the metrics."""
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
    """Check that two results have the same names and values."""
    checks.same(sorted(found), sorted(expected), "the names of the metrics")
    for key, value in expected.items():
        for got, wanted in zip(_arrays(found[key]), _arrays(value), strict=True):
            checks.same(got, wanted, f"metric {key!r}")


def _arrays(value: object) -> list[Array]:
    """Return the value of a metric as arrays."""
    if isinstance(value, Histogram):
        moments = np.array([value.total, value.squares])
        return [np.asarray(value.counts), np.asarray(value.edges), moments]
    return [np.asarray(value.text if isinstance(value, Text) else value)]


def metrics_are_those_since_the_last_call(checks: Checks, make: Make) -> None:
    """Check that the same arrays give the same metrics at a later step."""
    monitor = make()
    results = []
    for seed in (0, 1, 0):
        show(monitor, arrays_of("float32", seed))
        results.append(dict(monitor.metrics()))
    same_metrics(checks, results[2], results[0])


PROPERTIES: tuple[Callable[[Checks, Make], None], ...] = (
    only_looks,
    metrics_have_names,
    looks_at_any_number,
    metrics_are_values,
    takes_pieces,
    keeps_no_view,
    metrics_are_those_since_the_last_call,
)
