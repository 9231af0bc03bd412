"""Training models of several widths a few steps, and measuring what they compute.

Each step is one of the run but for the schedule: the learning rate is constant, and nothing is
reported, saved or skipped. All widths see the same text, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tisslm.config import RunConfig
from tisslm.config.model import TransformerConfig
from tisslm.contracts import Rows
from tisslm.contracts.options import updates
from tisslm.errors import ConfigError
from tisslm.models.transformer import Transformer
from tisslm.registry import Registry, load_registry
from tisslm.training.trainer import Trainer
from tisslm.workflows.build.trainer import ReadRun, read_run
from tisslm.workflows.build.tuned import drawn_model, tuning_of
from tisslm.workflows.coordinates.sizes import sizes_of
from tisslm.workflows.coordinates.table import Coordinates
from tisslm.workflows.coordinates.widths import Widths

__all__ = ["coordinate_check"]

#: What of a run is no part of a check: where it is kept, what it goes on from, what ends it.
_OWN = {
    "resume": "",
    "resume_from": "",
    "output_dir": "",
    "keep_best": 0,
    "restore_best": False,
    "early_stopping_patience": 0,
    "sample_every": 0,
}

Sizes = list[dict[str, float]]


def coordinate_check(
    config: RunConfig,
    widths: Widths | None = None,
    *,
    steps: int = 10,
    seeds: Sequence[int] = (1, 2, 3),
    registry: Registry | None = None,
    on_step: Callable[[], None] | None = None,
) -> Coordinates:
    """Train a run's model at several widths, and measure its activations after each step.

    Parameters
    ----------
    config : RunConfig
        Its learning rate is that of every width.
    widths : Widths, optional
    steps : int
        Updates of each model.
    seeds : sequence of int
        A model is trained for each, at each width; sizes are means.
    registry : Registry, optional
        Where names are looked up; every installed part if left out.
    on_step : callable, optional
        Called after each update.

    Raises
    ------
    ConfigError
        If the run is not that of a language model that begins with drawn values, or a width does
        not go with its shape.
    """
    widths, registry = widths or Widths(), load_registry() if registry is None else registry
    steps = updates("coordinate check: steps", steps)
    if not seeds:
        raise ConfigError("coordinate check: expected at least one seed, got none")
    read = read_run(config, registry)
    own = _shape_of(read)
    shapes = [widths.shape(own, width) for width in widths.widths]  # all, before the first trains
    found = [
        [_trained(read, shape, seed, steps, registry, on_step) for seed in seeds]
        for shape in shapes
    ]
    by_place = {
        place: tuple(
            tuple(float(np.mean([run[step][place] for run in runs])) for runs in found)
            for step in range(steps + 1)
        )
        for place in found[0][0][0]
    }
    losses = by_place.pop("loss")
    rate = read.config.training.learning_rate
    return Coordinates(widths, rate, tuple(seeds), by_place, losses)


def _shape_of(read: ReadRun) -> TransformerConfig:
    shape = read.shape
    if not isinstance(shape, TransformerConfig) or shape.embeds or read.origin is not None:
        raise ConfigError(
            "coordinate check: expected a run of a language model of a built-in family that "
            f"begins with drawn values, got {_other(read)}; leave that out"
        )
    return shape


def _other(read: ReadRun) -> str:
    if read.origin is not None:
        return "model.from"
    embeds = isinstance(read.shape, TransformerConfig)
    return "model.pooling" if embeds else f"a model of {type(read.family).__name__}"


def _trained(
    read: ReadRun,
    shape: TransformerConfig,
    seed: int,
    steps: int,
    registry: Registry,
    on_step: Callable[[], None] | None,
) -> Sizes:
    """Train one model, and return the sizes before each update and after the last."""
    config, data = read.config, read.data
    model = drawn_model(read.family, shape, tuning_of(config), seed)
    if not isinstance(model, Transformer):
        raise ConfigError("coordinate check: expected a Transformer, got another model")
    training = config.training.model_copy(update={**_OWN, "seed": seed, "max_steps": steps})
    trainer = Trainer(
        model,
        config.optimizer,
        config.loss,
        "constant",
        data.train,
        training,
        sinks=(),
        tokenizer=data.tokenizer,
        registry=registry,
    )
    session, found = trainer.session, []
    batches, probe = session.batches("coordinate check"), _probe(trainer)
    for number in range(steps + 1):
        sizes = sizes_of(model, probe)
        passed = session.step.gradients(next(batches))
        found.append({**sizes, "loss": passed.loss})
        if number < steps:
            session.step.update(session.parts.scaler.norm())
            if on_step is not None:
                on_step()
    return found


def _probe(trainer: Trainer) -> Rows:
    """Return the rows whose activations are measured: some of the first of the text."""
    dataset = trainer.session.dataset("coordinate check")
    count = min(len(dataset), trainer.config.batch_size)
    return Rows.stack([dataset.window(i) for i in range(count)])
