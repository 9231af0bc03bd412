"""Conformance checks of model families, by ``tisslm.contracts.ModelFamily``.

What their models do is checked beside it: ``language`` of those that predict tokens, ``encoders``
of those that make vectors of texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tisslm.contracts import Encoder, Exchange, ModelConfig, ModelFamily
from tisslm.errors import TissLMError
from tisslm.memory import Parameters, ShapeArena
from tisslm.testing.checks import Checks, Report, keeps_final_methods
from tisslm.testing.models.encoders import ENCODER
from tisslm.testing.models.language import LANGUAGE

__all__ = ["check_model"]

#: Small sizes, under the keys that most families have; each family gets those that it takes.
SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 16, "seq_len": 12, "vocab_size": 11}


def check_model(
    cls: type[ModelFamily], *, options: Mapping[str, Any] | None = None, name: str = ""
) -> Report:
    """Check that a family of models, and the models that it builds, keep their contracts.

    Parameters
    ----------
    cls : type
    options : mapping, optional
        Settings of a small model for ``configure``. By default, each of ``cls.test_options``, or
        small values of n_layer, n_head, n_embd, seq_len and vocab_size, as far as the family takes
        them.
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
    checks = Checks(name or f"model {cls.__name__}", ModelFamily)
    checks.run(keeps_final_methods, cls)
    family = cls()
    for chosen in _settings(cls, family, options):
        config = family.configure(**chosen)
        for prop in FAMILY:
            checks.run(prop, family, config, options=chosen)
        network = family.build(config)
        if isinstance(network, Encoder):
            for of_encoder in ENCODER:
                checks.run(of_encoder, family, config, options=chosen)
        else:
            for of_language in LANGUAGE:
                checks.run(of_language, family, config, options=chosen)
    return checks.report()


def _settings(
    cls: type[ModelFamily], family: ModelFamily, options: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    if options is not None:
        return [dict(options)]
    own = vars(cls).get("test_options")
    if own is not None:
        return [dict(one) for one in own]
    chosen: dict[str, Any] = {"seq_len": SMALL["seq_len"], "vocab_size": SMALL["vocab_size"]}
    for key in ("n_layer", "n_embd", "n_head"):
        try:
            family.configure(**chosen)
        except TissLMError:
            chosen[key] = SMALL[key]
    return [chosen]


def settings_come_back(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that ``values`` are plain JSON, and ``configure`` builds an equal configuration."""
    values = json.loads(json.dumps(config.values()))
    again = family.configure(**values)
    checks.same(again.values(), config.values(), "the settings of configure(**values)")
    sizes = (config.vocab_size, config.seq_len)
    checks.that(all(isinstance(n, int) and n >= 1 for n in sizes), "sizes >= 1", sizes)


def unknown_settings_are_refused(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that an unknown key is a TissLMError."""
    checks.raises(
        TissLMError, lambda: family.configure(**config.values(), no_such_key=1), "an unknown key"
    )


def models_have_the_named_parameters(
    checks: Checks, family: ModelFamily, config: ModelConfig
) -> None:
    """Check that a model has the parameters that its family names, with initial values."""
    named = [(spec.name, spec.shape) for spec in family.parameters(config)]
    model = family.build(config, seed=5)
    found = [(p.name, p.shape) for p in model.parameters]
    checks.same(sorted(found), sorted(named), "names and shapes of the parameters")
    checks.that(bool(np.isfinite(model.parameters.data).all()), "finite first values", "others")
    checks.same((model.vocab_size, model.seq_len), (config.vocab_size, config.seq_len), "sizes")
    again = family.build(config, seed=5)
    checks.same(again.parameters.data, model.parameters.data, "first values of the same seed")


def given_parameters_are_used(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that ``build`` uses given parameters unchanged."""
    given = Parameters(family.parameters(config), "float32")
    given.data[...] = 0.0
    model = family.build(config, parameters=given)
    checks.that(model.parameters is given, "the parameters that were given", "others")
    checks.that(not given.data.any(), "values as they were", "others")


def shapes_are_planned_without_memory(
    checks: Checks, family: ModelFamily, config: ModelConfig
) -> None:
    """Check that a model without memory has the same plan as the real one."""
    shapes = Parameters(family.parameters(config), "float32", arena=ShapeArena)
    planned = dict(family.build(config, parameters=shapes).plan(2, config.seq_len))
    real = dict(family.build(config).plan(2, config.seq_len))
    checks.same(planned, real, "the plan of a model on shapes")
    checks.that(all(n >= 0 for n in real.values()), "bytes >= 0", real)


def names_outside_lead_back(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that a model that has names outside gets its own bits back, and is a plain mapping."""
    model = family.build(config, seed=2)
    exchange = model.exchange()
    is_one = exchange is None or isinstance(exchange, Exchange)
    checks.that(is_one, "an Exchange, or None", type(exchange).__name__)
    if exchange is None:
        return
    checks.same(
        json.loads(json.dumps(exchange.config)), exchange.config, "a configuration of plain values"
    )
    own = model.parameters.state()
    there = exchange.outward(own)
    copied = {name: np.ascontiguousarray(there[name]) for name in there}
    back = exchange.inward(copied)
    checks.same(set(back), set(own), "the model's own names back")
    for name, array in own.items():
        checks.same(back[name], array, f"the bits of {name} back")


#: What holds of every family, whatever its models make.
FAMILY: tuple[Callable[[Checks, ModelFamily, ModelConfig], None], ...] = (
    settings_come_back,
    unknown_settings_are_refused,
    models_have_the_named_parameters,
    given_parameters_are_used,
    shapes_are_planned_without_memory,
    names_outside_lead_back,
)
