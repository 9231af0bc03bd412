"""Checks of every registered optimizer: the direction of its updates, and float32 against float64.

The other checks of an optimizer are in ``tisslm.testing.optimizer``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tisslm.contracts import Optimizer
from tisslm.memory import ParameterSpec
from tisslm.registry import Part, Registry
from tisslm.testing.differences import Tally
from tisslm.testing.examples import (
    descend,
    make_parameters,
    option_names,
    option_sets,
    set_gradients,
)
from tisslm.testing.gradients.problem import FLOAT32, GradientRow
from tisslm.testing.optimizer import LR, VARIANTS

__all__ = ["optimizer_rows"]

#: Arrays long enough for whole vectors and tails of a compiled update.
SPECS = (
    ParameterSpec("weight", (23, 29)),
    ParameterSpec("bias", (37,), decay=False),
)

#: The bound of the remaining share of a loss, or of a parameter.
FALLS = 0.999

DECAY = 0.1

#: Size of gradients that are no larger than the usual eps, whose sign would not show otherwise.
TINY = 1e-8


def optimizer_rows(registry: Registry, component: str | None = None) -> list[GradientRow]:
    """Check the updates of the registered optimizers.

    Parameters
    ----------
    registry : Registry
    component : str, optional
        The name of one optimizer; all if left out.
    """
    rows: list[GradientRow] = []
    for part in registry.entries("optimizer"):
        if component in (None, "optimizer", part.entry.name):
            try:
                cls = part.load()
                sets = option_sets(cls, None, n_given=2, variants=VARIANTS)
            except Exception as error:  # the plugin's module; its row says what it raised
                rows.append(_row(part, "import", _failed(error), FALLS))
                continue
            rows += [row for options in sets for row in _rows_of(part, cls, options)]
    return rows


def _rows_of(part: Part, cls: type[Optimizer], options: Mapping[str, Any]) -> Iterator[GradientRow]:
    shown = "".join(f", {name}={value}" for name, value in options.items())
    takes_decay = "weight_decay" in option_names(cls, 2)
    decaying = {"weight_decay": DECAY, **options} if takes_decay else dict(options)
    checks = [("a quadratic falls", _falls, options, FALLS)]
    if takes_decay:
        checks.append(("weight decay shrinks", _decays, decaying, FALLS))
    checks.append(("float32 vs float64", _agrees, decaying, FLOAT32))
    for what, check, chosen, tolerance in checks:
        try:
            tally = check(cls, chosen)
        except Exception as error:  # whatever the optimizer raises
            tally = _failed(error)
        yield _row(part, what + shown, tally, tolerance)


def _falls(cls: type[Optimizer], options: Mapping[str, Any]) -> Tally:
    """Measure the remaining share of a quadratic loss after 20 updates, in both types."""
    tally = Tally()
    for dtype in ("float32", "float64"):
        start, end = descend(cls(make_parameters(dtype, SPECS), LR, **options), 20)
        tally.keep(end / start, f"{dtype}: from {start:.6g} to {end:.6g}")
    return tally


def _decays(cls: type[Optimizer], options: Mapping[str, Any]) -> Tally:
    """Measure the remaining share of the largest decaying element, with zero gradients."""
    tally = Tally()
    for dtype in ("float32", "float64"):
        parameters = make_parameters(dtype, SPECS)
        before = parameters["weight"].data.copy()
        optimizer = cls(parameters, 10 * LR, **options)
        optimizer.zero_grad()
        optimizer.step()
        left = np.abs(parameters["weight"].data) / np.abs(before)
        tally.keep(float(left.max()), f"weight ({dtype}): {left.max():.6g} of an element is left")
    return tally


def _agrees(cls: type[Optimizer], options: Mapping[str, Any]) -> Tally:
    """Compare the changes by three updates with clipping, and the state, in both types."""
    results = []
    for dtype in ("float32", "float64"):
        parameters = make_parameters(dtype, SPECS)
        before = {p.name: p.data.copy() for p in parameters}
        optimizer = cls(parameters, 10 * LR, **options)
        for seed in range(3):
            optimizer.zero_grad()
            set_gradients(parameters, seed)
            parameters["bias"].grad[::3] *= TINY
            optimizer.scale_next_step(0.5)
            optimizer.step()
        changes = {f"change of {p.name}": p.data - before[p.name] for p in parameters}
        results.append({**changes, **parameters.by_parameter(optimizer.state())})
    tally = Tally()
    for name, expected in results[1].items():
        tally.compare(name, results[0][name], expected)
    return tally


def _failed(error: Exception) -> Tally:
    tally = Tally()
    tally.fail(f"{type(error).__name__}: {error}")
    return tally


def _row(part: Part, what: str, tally: Tally, tolerance: float) -> GradientRow:
    return GradientRow(
        part.entry.name, "optimizer", what, tally.error, tally.worst, tolerance, tally.n_checked
    )
