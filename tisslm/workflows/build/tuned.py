"""The model of a run of which a part is trained: its parameters are laid out with that known."""

from __future__ import annotations

from typing import Any

from tisslm.config import RunConfig
from tisslm.contracts import ModelConfig, ModelFamily, Network
from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ParameterSpec, ShapeArena
from tisslm.models.families.transformers import TransformerFamily
from tisslm.models.initialization import initialize
from tisslm.models.tuning.tuning import Tuning

__all__ = ["build_tuned", "drawn_model", "shapes_of", "specs_of", "tuning_of"]


def tuning_of(config: RunConfig) -> Tuning:
    """Return what of the model a run trains."""
    training, grouping = config.training, config.grouping
    return Tuning(
        tuple(training.freeze),
        training.frozen_precision,
        config.adapter,
        tuple(grouping.groups),
        grouping.layer_decay,
    )


def specs_of(family: ModelFamily, shape: ModelConfig, tuning: Tuning) -> list[ParameterSpec]:
    """Return the specification of every parameter, frozen ones and adapters among them.

    Raises
    ------
    ConfigError
        If a pattern matches nothing, a group changes nothing, nothing is left to train, or the
        family takes no such model.
    """
    if isinstance(family, TransformerFamily):
        return tuning.specs(shape)  # type: ignore[arg-type]  # the family's own shape
    if tuning == Tuning():
        return list(family.parameters(shape))
    freezes = bool(tuning.freeze) or any(group.freeze for group in tuning.groups)
    asked = "training.freeze" if tuning.freeze else "optimizer.groups"
    if tuning.adapter is not None:
        asked = "[adapter]"
    if tuning.adapter is not None or (freezes and not family.freezes):
        raise ConfigError(
            f"{asked}: expected a model of a built-in family, got one of {type(family).__name__}, "
            "which trains all of its parameters; leave it out"
        )
    return tuning.arranged(family.parameters(shape))


def build_tuned(
    family: ModelFamily, shape: ModelConfig, parameters: Parameters, tuning: Tuning, **how: Any
) -> Network:
    """Return a model over parameters of ``specs_of``; ``how`` are the seed and the type."""
    if isinstance(family, TransformerFamily):
        return family.build(shape, parameters=parameters, tuning=tuning, **how)  # type: ignore[arg-type]
    return family.build(shape, parameters=parameters, **how)


def shapes_of(family: ModelFamily, shape: ModelConfig, tuning: Tuning) -> Network:
    """Return the model without memory."""
    shapes = Parameters(specs_of(family, shape, tuning), arena=ShapeArena)
    return build_tuned(family, shape, shapes, tuning)


def drawn_model(family: ModelFamily, shape: ModelConfig, tuning: Tuning, seed: int) -> Network:
    """Return the model with first values."""
    if tuning == Tuning():
        return family.build(shape, seed=seed)
    parameters = Parameters(specs_of(family, shape, tuning), gradients_at_once=False)
    if isinstance(family, TransformerFamily):
        initialize(parameters, shape, seed)  # type: ignore[arg-type]
    else:
        drawn = family.build(shape, seed=seed).parameters
        for parameter in parameters:
            parameter.fill(..., drawn[parameter.name].data)
    return build_tuned(family, shape, parameters, tuning, seed=seed)
