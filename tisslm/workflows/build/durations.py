"""Durations become numbers of steps, once the data and the rows of an update are known."""

from __future__ import annotations

import math

from tisslm.config import RunConfig
from tisslm.config.aliases import note
from tisslm.config.durations import KEYS, Span
from tisslm.config.fields import show
from tisslm.contracts import Dataset
from tisslm.contracts.preference import PAIR
from tisslm.errors import ConfigError
from tisslm.training.batches import few_windows, steps_per_epoch
from tisslm.training.ranks.share import for_ranks

__all__ = ["in_steps"]


def in_steps(config: RunConfig, dataset: Dataset, seq_len: int, ranks: int = 1) -> RunConfig:
    """Return a configuration with a number of steps for each duration, which a note tells.

    Epochs and shares are rounded to the nearest step, tokens up; each is at least one step.

    Parameters
    ----------
    config : RunConfig
        It keeps what was said (``durations``).
    dataset : Dataset
        What is trained on.
    seq_len : int
        T of its rows.
    ranks : int
        How many processes train together.

    Raises
    ------
    ConfigError
        If examples of texts or pairs of answers, which are of any length, are to be counted in
        tokens.
    """
    if config.durations is None:
        return config
    training = for_ranks(config.training, ranks)
    few, _ = few_windows(dataset, None, training)
    per_epoch = max(1, steps_per_epoch(few, training))
    per_step = training.rows_per_update * seq_len
    steps = training.max_steps or training.epochs * per_epoch
    for key, span in config.durations.spans().items():
        section, text = KEYS[key], show(getattr(config.durations, key))
        if span.unit == "tok" and {"lengths", PAIR} & dataset.window(0).others.keys():
            raise ConfigError(
                f"{section}.{key}: expected epochs or steps, since examples of texts, and pairs of "
                f"answers, have any number of tokens, got {text}"
            )
        found, words = _counted(span, per_epoch, per_step, steps)
        note(f"{section}.{key} = {text} is {found:,} steps{words}")
        config = config.changed(section, **{key: found})
        if key == "max_steps":
            steps = found
    return config


def _counted(span: Span, per_epoch: int, per_step: int, steps: int) -> tuple[int, str]:
    """Return a duration in steps, and of what."""
    if span.unit == "ep":
        return max(1, round(span.amount * per_epoch)), f", of {per_epoch:,} in an epoch"
    if span.unit == "tok":
        return max(1, math.ceil(span.amount / per_step)), f" of {per_step:,} tokens"
    if span.unit == "%":
        return max(1, round(span.amount / 100 * steps)), f", of {steps:,} in the run"
    return int(span.amount), ""
