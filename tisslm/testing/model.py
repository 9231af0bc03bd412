"""Conformance checks of model families, by ``tisslm.contracts.ModelFamily`` and ``Model``.

Gradients are compared with differences in ``gradients``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Batch, Exchange, Model, ModelConfig, ModelFamily, target_weights
from tisslm.contracts.model import language_model
from tisslm.errors import TissLMError
from tisslm.memory import Parameters, ShapeArena
from tisslm.optim.losses import CrossEntropy
from tisslm.testing.checks import Checks, Report, keeps_final_methods

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
        for prop in PROPERTIES:
            checks.run(prop, family, config, options=chosen)
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


def _batch(model: Model, rows: int = 2) -> Batch:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, model.vocab_size, (2, rows, model.seq_len)).astype(np.int32)
    ids[1, 0, 1] = -100
    return Batch(ids[0], ids[1], target_weights(ids[1], model.dtype))


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
    model = _built(family, config, seed=5)
    found = [(p.name, p.shape) for p in model.parameters]
    checks.same(sorted(found), sorted(named), "names and shapes of the parameters")
    checks.that(bool(np.isfinite(model.parameters.data).all()), "finite first values", "others")
    checks.same((model.vocab_size, model.seq_len), (config.vocab_size, config.seq_len), "sizes")
    again = _built(family, config, seed=5)
    checks.same(again.parameters.data, model.parameters.data, "first values of the same seed")


def given_parameters_are_used(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that ``build`` uses given parameters unchanged."""
    given = Parameters(family.parameters(config), "float32")
    given.data[...] = 0.0
    model = _built(family, config, parameters=given)
    checks.that(model.parameters is given, "the parameters that were given", "others")
    checks.that(not given.data.any(), "values as they were", "others")


def _built(family: ModelFamily, config: ModelConfig, **how: Any) -> Model:
    """Return the language model of a shape."""
    return language_model(family.build(config, **how), "check_model")


def shapes_are_planned_without_memory(
    checks: Checks, family: ModelFamily, config: ModelConfig
) -> None:
    """Check that a model without memory has the same plan as the real one."""
    shapes = Parameters(family.parameters(config), "float32", arena=ShapeArena)
    planned = dict(_built(family, config, parameters=shapes).plan(2, config.seq_len))
    real = dict(_built(family, config).plan(2, config.seq_len))
    checks.same(planned, real, "the plan of a model on shapes")
    checks.that(all(n >= 0 for n in real.values()), "bytes >= 0", real)


def both_ways_to_a_gradient_agree(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that ``step_loss`` gives the same as forward, loss and backward one by one."""
    model, loss = _built(family, config, seed=1, dtype="float64"), CrossEntropy()
    batch = _batch(model)
    model.parameters.zero_grad()
    whole = model.step_loss(batch, loss, train=False)
    first = np.array(model.parameters.grad)
    model.parameters.zero_grad()
    logits, cache = model.forward(batch.x_BT)
    checks.same(logits.shape, (*batch.x_BT.shape, model.vocab_size), "shape of the logits")
    apart = loss.forward(logits, batch.y_BT)
    model.backward(loss.backward(), cache)
    second = np.array(model.parameters.grad)
    checks.close(whole, apart, "the loss of step_loss and that of forward", 1e-12)
    checks.close(second, first, "the gradients of both", 1e-12)
    checks.that(bool(first.any()), "a gradient that is not zero", "zeros")


def gradients_are_added(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that a second pass adds to the gradients of the first."""
    model, loss = _built(family, config, seed=1, dtype="float64"), CrossEntropy()
    batch = _batch(model)
    model.parameters.zero_grad()
    model.step_loss(batch, loss, train=False)
    once = np.array(model.parameters.grad)
    model.step_loss(batch, loss, train=False)
    checks.close(model.parameters.grad, 2 * once, "gradients of two passes", 1e-12)


def what_targets_count_may_follow_from_their_losses(
    checks: Checks, family: ModelFamily, config: ModelConfig
) -> None:
    """Check that ``step_weighed`` adds the gradients of ``step_loss`` with the same weights."""
    model, loss = _built(family, config, seed=1, dtype="float64"), CrossEntropy()
    batch, seen = _batch(model), []

    def weigh(losses_BT: NDArray[Any]) -> NDArray[Any]:
        seen.append(losses_BT.copy())
        return np.where(batch.y_BT == -100, 0.0, np.cos(losses_BT))  # some count less than nothing

    model.parameters.zero_grad()
    model.step_weighed(batch, loss, weigh, train=False)
    first = np.array(model.parameters.grad)
    checks.same(len(seen), 1, "calls of weigh")
    checks.same(seen[0].shape, batch.y_BT.shape, "shape of the losses")
    total = model.step_loss(batch, loss, gradient=False, train=False)
    checks.close(float(seen[0].sum()), total, "the sum of the losses", 1e-12)
    model.parameters.zero_grad()
    weighed = replace(batch, weights_BT=weigh(seen[0]))
    model.step_loss(weighed, loss, train=False)
    checks.close(first, np.array(model.parameters.grad), "the gradients of both", 1e-12)


def nothing_is_seen_from_later_tokens(
    checks: Checks, family: ModelFamily, config: ModelConfig
) -> None:
    """Check that logits do not depend on later tokens."""
    model = _built(family, config, seed=2, dtype="float64")
    x_BT = _batch(model).x_BT
    whole, _ = model.forward(x_BT)
    whole = np.array(whole)
    half = x_BT.shape[1] // 2
    other = x_BT.copy()
    other[:, half:] = (other[:, half:] + 1) % model.vocab_size
    found, _ = model.forward(other)
    checks.close(found[:, :half], whole[:, :half], "logits before a token that changed", 1e-12)


def decoding_is_the_whole_pass(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that decoding gives the logits of a forward over the whole text, if text is written."""
    model = _built(family, config, seed=2, dtype="float64")
    checks.that(model.writes_text in (True, False), "writes_text to be a flag", model.writes_text)
    if not model.writes_text:
        return
    x_BT = _batch(model).x_BT
    whole, _ = model.forward(x_BT)
    whole, decoder = np.array(whole), model.decoder()
    start = max(1, x_BT.shape[1] // 2)
    found = decoder.prefill(x_BT[:, :start])
    checks.close(found, whole[:, start - 1], "the logits after a prompt", 1e-9)
    for time in range(start, x_BT.shape[1]):
        checks.that(not decoder.full_B.any(), "room in the context", "none")
        found = decoder.step(x_BT[:, time])
        checks.close(found, whole[:, time], f"the logits after token {time}", 1e-9)
    checks.that(bool(decoder.full_B.all()), "a full context at seq_len tokens", "room")
    checks.close(decoder.restart(1, x_BT[1, :start]), whole[1, start - 1], "a restart", 1e-9)


def decoded_sequences_are_as_alone(
    checks: Checks, family: ModelFamily, config: ModelConfig
) -> None:
    """Check that sequences of different lengths, of which some end, get the logits of the whole."""
    model = _built(family, config, seed=2, dtype="float64")
    x_BT = _batch(model).x_BT
    if not model.writes_text or x_BT.shape[1] < 3:
        return
    whole, _ = model.forward(x_BT)
    whole, decoder = np.array(whole), model.decoder()
    rows = np.arange(len(x_BT))
    lengths = 1 + rows % 2
    found = decoder.prefill(x_BT[:, :2], lengths)
    checks.close(found, whole[rows, lengths - 1], "the logits after prompts of two lengths", 1e-9)
    found = decoder.step(x_BT[rows, lengths])
    checks.close(found, whole[rows, lengths], "the logits after a token at its own place", 1e-9)
    last = np.where(rows == 0, x_BT[rows, 2], -1)
    found = decoder.step(last)
    checks.close(found[0], whole[0, 2], "the logits of a sequence beside ended ones", 1e-9)


def names_outside_lead_back(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that a model that has names outside gets its own bits back, and is a plain mapping."""
    model = _built(family, config, seed=2)
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


def values_are_asked_for(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that a model which says so reads no values but those that it asks for in each pass."""
    model = _built(family, config, seed=2)
    checks.that(
        model.asks_for_values in (True, False),
        "asks_for_values to be a flag",
        model.asks_for_values,
    )
    if not model.asks_for_values:
        return
    passes, arena = _passes(model), model.parameters.data_arena
    expected, values = [run() for run in passes], arena.copy()

    def bring(start: int, stop: int) -> None:
        arena[start:stop] = values[start:stop]

    for run, result in zip(passes, expected, strict=True):
        arena[...] = np.nan
        model.parameters.withhold(bring)
        checks.same(run(), result, "the same of values that are brought as they are asked for")


def _passes(model: Model) -> list[Callable[[], Any]]:
    """Return what reads a model's values, each as a function that has a result."""
    batch = _batch(model)

    def gradient() -> Any:
        model.parameters.zero_grad()
        loss = model.step_loss(batch, CrossEntropy(), train=False)
        return np.append(model.parameters.grad, loss)

    def forward() -> Any:
        return np.array(model.forward(batch.x_BT)[0])

    def decode() -> Any:
        decoder = model.decoder()
        decoder.prefill(batch.x_BT[:, :2])
        return np.array(decoder.step(batch.x_BT[:, 2]))

    return [gradient, forward, gradient, *([decode] if model.writes_text else [])]


#: Tolerances are those of a few float64 sums of 8 to 12 terms each.
PROPERTIES: tuple[Callable[[Checks, ModelFamily, ModelConfig], None], ...] = (
    settings_come_back,
    unknown_settings_are_refused,
    models_have_the_named_parameters,
    given_parameters_are_used,
    shapes_are_planned_without_memory,
    both_ways_to_a_gradient_agree,
    gradients_are_added,
    what_targets_count_may_follow_from_their_losses,
    nothing_is_seen_from_later_tokens,
    decoding_is_the_whole_pass,
    decoded_sequences_are_as_alone,
    names_outside_lead_back,
    values_are_asked_for,
)
