"""Whether a model asks for its values where several ranks bring them while a pass goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tisslm.contracts import Network
from tisslm.testing.checks import Checks

__all__ = ["reads_what_it_asks_for"]


def reads_what_it_asks_for(
    checks: Checks, network: Network, passes: Sequence[Callable[[], Any]]
) -> None:
    """Check that passes have the same results where values come only when they are asked for.

    Parameters
    ----------
    checks : Checks
    network : Network
        Nothing is checked of one that does not say that it asks.
    passes : sequence of callable
        What reads the model's values, each with a result of its own.
    """
    said = network.asks_for_values
    checks.that(said in (True, False), "asks_for_values to be a flag", said)
    if not said:
        return
    arena = network.parameters.data_arena
    expected, values = [run() for run in passes], arena.copy()

    def bring(start: int, stop: int) -> None:
        arena[start:stop] = values[start:stop]

    for run, result in zip(passes, expected, strict=True):
        arena[...] = np.nan
        network.parameters.withhold(bring)
        checks.same(run(), result, "the same of values that are brought as they are asked for")
