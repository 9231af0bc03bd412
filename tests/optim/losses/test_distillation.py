"""Distillation by its formula, tile by tile, and what cannot be a teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from preference_runs import model_of

from tisslm.contracts import Batch, target_weights
from tisslm.errors import ConfigError, ShapeError
from tisslm.optim.losses import CrossEntropy, Distillation
from tisslm.testing import check_loss


def batch_of(rows: int = 3, time: int = 10) -> Batch:
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 256, (2, rows, time)).astype(np.int32)
    y[0, 3] = -100
    start = np.zeros((rows, time), np.int32)
    start[:, 6:] = 6
    return Batch(x, y, target_weights(y, np.float64), start)


def log_softmax(z_NV: np.ndarray) -> np.ndarray:
    z_NV = z_NV - z_NV.max(axis=1, keepdims=True)
    return z_NV - np.log(np.exp(z_NV).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (2.5, 0.3), (4.0, 1.0)])
def test_the_loss_of_a_pass_is_the_formula(temperature: float, alpha: float) -> None:
    teacher, student, batch = (
        model_of(dtype="float64", n_layer=3),
        model_of(dtype="float64"),
        batch_of(),
    )
    for parameter in teacher.parameters:
        parameter.data *= 1.7  # apart from the student
    loss = Distillation(teacher=teacher, temperature=temperature, alpha=alpha)
    loss.begin(batch)
    found = student.step_loss(batch, loss, train=False)
    flat = (-1, 256)
    y_NV = teacher.forward(batch.x_BT, start=batch.start_BT)[0].reshape(flat)
    z_NV = student.forward(batch.x_BT, start=batch.start_BT)[0].reshape(flat)
    log_p, log_q = log_softmax(y_NV / temperature), log_softmax(z_NV / temperature)
    kl_N = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    targets_N = batch.y_BT.reshape(-1)
    entropy_N = -log_softmax(z_NV)[np.arange(len(targets_N)), np.maximum(targets_N, 0)]
    each_N = (1 - alpha) * entropy_N + alpha * temperature**2 * kl_N
    assert found == pytest.approx(float(each_N @ batch.weights_BT.reshape(-1)), rel=1e-12)


def test_it_keeps_the_contract_of_losses() -> None:
    assert check_loss(Distillation).n_assertions > 300


def test_the_teacher_as_student_leaves_the_cross_entropy() -> None:
    model, batch = model_of(), batch_of()
    loss = Distillation(teacher=model_of(), alpha=0.25)
    loss.begin(batch)
    found = model.step_loss(batch, loss, train=False)
    grad = model.parameters.grad.copy()
    model.parameters.zero_grad()
    plain = model.step_loss(batch, CrossEntropy(), train=False)
    assert found == pytest.approx(0.75 * plain, rel=1e-6)
    np.testing.assert_allclose(grad, 0.75 * model.parameters.grad, atol=1e-7)


def test_a_teacher_takes_no_memory_for_gradients_and_learns_nothing() -> None:
    teacher = model_of()
    before = teacher.parameters.data.tobytes()
    loss = Distillation(teacher=teacher)
    loss.begin(batch_of())
    model_of().step_loss(batch_of(), loss)
    assert teacher.parameters.data.tobytes() == before
    assert not teacher.parameters.grad.any()


def test_a_run_goes_on_with_the_teacher_that_it_began_with() -> None:
    state = Distillation(teacher=model_of()).state()
    Distillation(teacher=model_of()).load_state(state)
    Distillation(teacher=model_of()).load_state({})  # of a checkpoint that does not say
    other = model_of()
    other.parameters.data[5] += 1e-3
    with pytest.raises(ConfigError, match=r"teacher: expected the weights that the run began with"):
        Distillation(teacher=other).load_state(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "runs/large"}, r"teacher: expected a language model, got 'runs/large'; give"),
        ({"temperature": 0.0}, r"temperature: expected a finite number >= 0.001, got 0.0"),
        ({"alpha": 0.0}, r"alpha: expected a number in \(0, 1\], got 0.0"),
        ({"alpha": 1.5}, r"alpha: expected a number in \(0, 1\], got 1.5"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Distillation(**{"teacher": model_of(), **options})


def test_tiles_that_the_teacher_cannot_have_read_are_refused() -> None:
    loss, batch = Distillation(teacher=model_of(seq_len=8)), batch_of()
    with pytest.raises(ShapeError, match=r"at most the teacher's 8 tokens, got 10; lower"):
        loss.begin(batch)
    with pytest.raises(ShapeError, match=r"expected to be told of the pass \(Loss.begin\)"):
        model_of().step_loss(batch, loss)
    other = Distillation(teacher=model_of(vocab_size=100))
    with pytest.raises(ConfigError, match=r"a teacher of 256 token ids, as the model has, got one"):
        model_of().step_loss(batch, other)
