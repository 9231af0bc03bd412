"""From settings to a model that knows how its passes are run.

What does not live here: the passes (the model), and what "auto" means for the precision
(``precision``).
"""

from __future__ import annotations

from typing import NamedTuple

from tisslm.config import TrainingConfig
from tisslm.contracts import Model
from tisslm.errors import ConfigError
from tisslm.precision import resolve_precision

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


def prepare_model(model: Model, config: TrainingConfig, activation_checkpointing: str) -> Passes:
    """Tell the model how the passes of a run are made, and return what it was told.

    A model is told each time, since another run may have prepared it otherwise. One that lacks
    ``prepare`` (it need not derive from the contract) runs as if prepared with the defaults.

    Parameters
    ----------
    model : Model
    config : TrainingConfig
    activation_checkpointing : str
        What ``planning.fit_memory`` chose.

    Raises
    ------
    ConfigError
        If the model cannot run so.
    """
    precision = resolve_precision(config.precision)
    passes = Passes(precision, activation_checkpointing)
    prepare = getattr(model, "prepare", None)
    if prepare is not None:
        prepare(**passes._asdict())
    elif passes != Passes():
        raise ConfigError(
            f"training.precision = {passes.precision!r}, activation_checkpointing = "
            f"{passes.activation_checkpointing!r}: {type(model).__name__} has no prepare(), so it "
            "runs in fp32 and keeps every activation; leave both at their defaults"
        )
    return passes
