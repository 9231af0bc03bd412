"""A step returns what it did."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from tisslm_lion.lion import Lion

from tisslm.errors import NonFiniteError


def window_of(trainer):
    return next(trainer.session.batches("a test"))


def test_an_update_tells_loss_norm_rate_and_movement(make_trainer):
    trainer = make_trainer(max_grad_norm=1e-3, log_gradients=True, monitor_steps=1, logging_steps=1)
    rate, size = trainer.scheduler.get_lr(), np.linalg.norm(trainer.model.parameters.data)
    result = trainer.session.train_step(window_of(trainer))
    assert result.applied
    assert result.clipped
    assert result.refused is None
    assert result.loss == trainer.loss_history[-1]
    assert result.grad_norm == trainer.compute_grad_norm() > 1e-3
    assert result.learning_rate == rate
    assert result.parameter_norm == pytest.approx(float(size), rel=1e-6)
    assert 0 < result.update_ratio < 1
    assert any(name.startswith("grad_norm/") for name in result.observed)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.loss = 0.0


def test_movement_is_measured_at_logged_steps_and_by_optimizers_that_do(make_trainer, make_model):
    trainer = make_trainer(logging_steps=2)
    first, second = (trainer.session.train_step(window_of(trainer)) for _ in range(2))
    assert first.update_ratio is None
    assert second.update_ratio is not None
    model = make_model()
    lion = make_trainer(
        folder="lion",
        parts={"model": model, "optimizer": Lion(model.parameters, 1e-3)},
        logging_steps=1,
    )
    assert lion.session.train_step(window_of(lion)).parameter_norm is None


def test_a_refused_step_says_why_and_changes_nothing(make_trainer):
    trainer = make_trainer()
    session, before = trainer.session, trainer.model.parameters.data.copy()
    loss = session.step.gradients(window_of(trainer))
    trainer.model.parameters.grad[3] = math.nan
    result = session.step.apply(loss, session.state)
    assert not result.applied
    assert result.refused.kind == "nonfinite"
    assert math.isnan(result.grad_norm)
    assert (session.state.step, session.state.skipped) == (0, 0)  # for the session to count
    assert np.array_equal(trainer.model.parameters.data, before)


def test_an_overflow_under_the_loss_scale_is_no_refusal(make_trainer):
    trainer = make_trainer(precision="fp16", loss_scale_init=8.0)
    session = trainer.session
    loss = session.step.gradients(window_of(trainer))
    trainer.model.parameters.grad[3] = math.inf
    result = session.step.apply(loss, session.state)
    assert (result.applied, result.refused) == (False, None)
    assert (trainer.loss_scale, trainer.skipped_steps, trainer.current_step) == (4.0, 1, 0)


def test_a_check_that_raises_drops_the_step(make_trainer):
    trainer = make_trainer(gradient_accumulation_steps=2)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 2:
            raise NonFiniteError("enough")

    trainer.session.step._gradients._check = check
    before = trainer.model.parameters.data.copy()
    with pytest.raises(NonFiniteError, match="enough"):
        trainer.session.train_step(window_of(trainer))
    assert trainer.current_step == trainer.state.tokens_seen == 0
    assert np.array_equal(trainer.model.parameters.data, before)
