"""Training at rates that rise, and putting everything back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm.errors import ConfigError
from tisslm.optim.losses import CrossEntropy
from tisslm.workflows.lr_range import Rates, range_test, sweep


def test_rates_rise_by_equal_factors():
    rates = list(Rates(1e-4, 1.0, 5))
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert (rates[0], rates[-1]) == (1e-4, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lowest": 0.0},
            "range test: expected a lowest rate above 0 and a highest above that, got 0 and 1",
        ),
        (
            {"lowest": 2.0},
            "range test: expected a lowest rate above 0 and a highest above that, got 2 and 1",
        ),
        (
            {"highest": math.inf},
            "range test: expected a lowest rate above 0 and a highest above that, got 1e-06 and "
            "inf",
        ),
        ({"steps": 1}, "range test: expected at least 2 steps, got 1"),
        ({"stop_factor": 1.0}, "range test: expected a stop factor above 1, got 1"),
        ({"stop_factor": math.nan}, "range test: expected a stop factor above 1, got nan"),
    ],
)
def test_rates_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        Rates(**options)
    assert str(caught.value) == message


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_each_step_is_one_of_the_run(make, precision):
    """The losses are those of ``train_step`` at the same rates, to the bit."""
    curve = sweep(make(precision=precision), Rates(1e-4, 1e-1, 7))
    trainer, losses = make(precision=precision), []
    batches = trainer.dataset.batches(6, seed=42)
    for rate in (*curve.rates, 1.0):
        trainer.optimizer.set_lr(rate)
        losses.append(trainer.train_step(*next(batches)))
    assert len(curve.rates) == 7
    assert (curve.first_loss, *curve.losses) == tuple(losses)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adamw", ("sgd", {"momentum": 0.9})], ids=str)
def test_the_run_goes_on_as_if_nothing_was(make, precision, optimizer):
    config = {"precision": precision, "loss_scale_init": 2**24}  # which overflows
    parts = {"optimizer": optimizer}
    whole = make("whole", parts=parts, **config)
    whole.train()
    trainer = make(parts=parts, **config)
    batches = trainer.dataset.batches(6, seed=42)
    for _ in range(3):
        trainer.train_step(*next(batches))
    before = trainer.model.parameters.data.copy(), trainer.loss_scale, trainer.optimizer.get_lr()
    curve = range_test(trainer, Rates(1e-4, 1e-1, 6))
    assert len(set(curve.losses)) == 6
    after = trainer.model.parameters.data, trainer.loss_scale, trainer.optimizer.get_lr()
    assert np.array_equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert not trainer.run.made
    trainer.train()
    assert trainer.loss_history == whole.loss_history
    assert np.array_equal(trainer.model.parameters.data, whole.model.parameters.data)
    states = trainer.optimizer.state(), whole.optimizer.state()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[1])


def test_what_was_set_by_hand_is_put_back_too(make):
    trainer = make()
    trainer.optimizer.set_lr(0.123)
    trainer.dataset.epoch = 3
    trainer.stopping.observe(0, {"eval/loss": 2.5})
    standing = trainer.stopping.state()
    range_test(trainer, Rates(1e-4, 1e-1, 4))
    assert trainer.optimizer.get_lr() == 0.123
    assert trainer.dataset.epoch == 3
    assert trainer.stopping.state() == standing
    assert (trainer.current_step, trainer.state.position) == (0, 0)


def test_an_error_in_the_middle_puts_everything_back_too(make):
    trainer = make()
    before = trainer.model.parameters.data.copy()
    steps = iter(range(3))

    def interrupt():
        if next(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        range_test(trainer, on_step=interrupt)
    assert np.array_equal(trainer.model.parameters.data, before)
    assert (trainer.model.parameters.updates, trainer.current_step) == (0, 0)


def test_a_loss_with_memory_is_given_back_what_it_knew(make):
    class Remembers(CrossEntropy):
        seen = 0

        def tile(self, *arguments, **options):
            self.seen += 1
            return super().tile(*arguments, **options)

        def state(self):
            return {"seen": self.seen}

        def load_state(self, state):
            self.seen = state["seen"]

    loss = Remembers()
    loss.seen = 5
    range_test(make(parts={"loss_fn": loss}), Rates(1e-4, 1e-3, 3))
    assert loss.seen == 5


def test_it_ends_where_the_loss_runs_away(make):
    curve = range_test(make(), Rates(1e-3, 1e4, 30))
    assert curve.diverged
    assert 3 < len(curve.rates) < 30
    assert all(map(math.isfinite, curve.losses))
    patient = range_test(make(), Rates(1e-3, 1e4, 30, stop_factor=1e6))
    assert len(patient.rates) > len(curve.rates)
    assert patient.losses[: len(curve.losses)] == curve.losses


def test_it_ends_where_the_loss_is_not_finite(make):
    curve = range_test(make(max_grad_norm=0), Rates(1e-3, 1e38, 30, stop_factor=1e300))
    assert curve.diverged
    assert all(map(math.isfinite, curve.losses))


def test_data_are_needed(make):
    with pytest.raises(ConfigError) as caught:
        range_test(make(parts={"dataset": None}))
    assert str(caught.value) == "range test: no dataset was given; pass dataset= to the Trainer"
