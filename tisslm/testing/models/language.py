"""Conformance checks of models that predict tokens, by ``tisslm.contracts.Model``.

Gradients are compared with differences in ``tisslm.testing.gradients``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Batch, Model, ModelConfig, ModelFamily, target_weights
from tisslm.contracts.model import language_model
from tisslm.optim.losses import CrossEntropy
from tisslm.testing.checks import Checks
from tisslm.testing.models.brought import reads_what_it_asks_for

__all__ = ["LANGUAGE"]


def _batch(model: Model, rows: int = 2) -> Batch:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, model.vocab_size, (2, rows, model.seq_len)).astype(np.int32)
    ids[1, 0, 1] = -100
    return Batch(ids[0], ids[1], target_weights(ids[1], model.dtype))


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


def _built(family: ModelFamily, config: ModelConfig, **how: Any) -> Model:
    """Return the language model of a shape."""
    return language_model(family.build(config, **how), "check_model")


def values_are_asked_for(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that a model which says so reads no values but those that it asks for in each pass."""
    model = _built(family, config, seed=2)
    reads_what_it_asks_for(checks, model, _passes(model))


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
LANGUAGE: tuple[Callable[[Checks, ModelFamily, ModelConfig], None], ...] = (
    both_ways_to_a_gradient_agree,
    gradients_are_added,
    what_targets_count_may_follow_from_their_losses,
    nothing_is_seen_from_later_tokens,
    decoding_is_the_whole_pass,
    decoded_sequences_are_as_alone,
    values_are_asked_for,
)
