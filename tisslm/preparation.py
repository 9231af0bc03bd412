"""From settings to a model that knows how its passes are run.

What does not live here: the passes (the model), and what "auto" means for the precision
(``precision``).
"""

from __future__ import annotations

from typing import NamedTuple

from tisslm.planning import Planner, fit_memory

__all__ = ["Passes", "prepare_model"]


class Passes(NamedTuple):
    """How passes are run, with nothing left to decide.

    Attributes
    ----------
    precision : str
        "fp32", "bf16" or "fp16".
    activation_checkpointing : str
        "none", "full" or "every=N".
    """

    precision: str = "fp32"
    activation_checkpointing: str = "none"


def prepare_model(planner: Planner) -> Passes:
    """Settle how the passes of a run are made, and tell the model.

    A model is told each time, since another run may have prepared it otherwise.

    Parameters
    ----------
    planner : Planner
        Of the run, with its model and a precision that is resolved.

    Raises
    ------
    ConfigError
        If the model cannot run so, or the run does not fit the memory.
    """
    return Passes(planner.precision, fit_memory(planner))
