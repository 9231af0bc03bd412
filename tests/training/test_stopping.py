"""Runs that end, and go back, by what evaluations say."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interruptions import Interruption, Places, differences, metric_lines

from tisslm import TokenDataset, TrainingConfig, Transformer, checkpoint
from tisslm.contracts import Sink
from tisslm.errors import CheckpointError, ConfigError, SinkError
from tisslm.training.early_stopping import Stopping

# --------------------------------------------------------------------------- the decision


def decide(losses, *, metric="eval/loss", **config):
    """Return the number of the evaluation that ends a run, 0 if none does, and its standing."""
    stopping = Stopping(TrainingConfig(best_metric=metric, **config))
    for number, loss in enumerate(losses, 1):
        stopping.observe(10 * number, {metric: loss})
        if stopping.due:
            return number, stopping
    return 0, stopping


@pytest.mark.parametrize(
    ("losses", "config", "end"),
    [
        ([5, 4, 3, 2, 1], {"early_stopping_patience": 1}, 0),
        ([5, 4, 4, 3], {"early_stopping_patience": 1}, 3),
        ([5, 4, 4.5, 3, 3.5, 3.2, 1], {"early_stopping_patience": 2}, 6),
        ([5, 4.9, 4.8, 4.7], {"early_stopping_patience": 2, "early_stopping_min_delta": 0.5}, 3),
        ([5, 4.7, 4.4, 4.0], {"early_stopping_patience": 2, "early_stopping_min_delta": 0.5}, 0),
        ([5, math.nan, math.inf, 1], {"early_stopping_patience": 2}, 3),
        ([math.nan, math.nan], {"early_stopping_patience": 2}, 2),
        ([1, 1, 1, 1], {}, 0),
        ([0.1, 0.2, 0.2], {"early_stopping_patience": 1, "metric": "eval/accuracy"}, 3),
        ([3, 4, 4], {"early_stopping_patience": 1, "best_mode": "max"}, 3),
    ],
)
def test_when_a_run_ends(losses, config, end):
    assert decide(losses, **config)[0] == end


def test_the_best_is_the_best_whatever_the_margin():
    stopping = decide([5.0, 4.9, 4.8, 4.9], early_stopping_min_delta=0.5)[1]
    assert stopping.summary() == {"metric": "eval/loss", "value": 4.8, "step": 30}
    assert stopping.is_best(30)
    assert not stopping.is_best(40)


@pytest.mark.parametrize(
    ("losses", "config", "reason"),
    [
        (
            [2.5, 2.25, 2.5, 3.0],
            {"early_stopping_patience": 2},
            "eval/loss: of the last 2 evaluations, none was better than 2.25",
        ),
        (
            [2.5, 2.25],
            {"early_stopping_patience": 1, "early_stopping_min_delta": 0.5},
            "eval/loss: of the last 1 evaluation, none was better than 2.5 by more than 0.5",
        ),
        (
            [math.nan],
            {"early_stopping_patience": 1, "early_stopping_min_delta": 0.5},
            "eval/loss: of the last 1 evaluation, no value was finite",
        ),
        ([1.0], {"early_stopping_patience": 1}, ""),
    ],
)
def test_the_reason_is_said(losses, config, reason):
    assert decide(losses, **config)[1].reason == reason


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    losses=st.lists(st.sampled_from([1.0, 2.0, 2.05, 3.0, math.nan]), min_size=1, max_size=20),
    cut=st.integers(0, 20),
    patience=st.integers(1, 3),
    delta=st.sampled_from([0.0, 0.1]),
)
def test_cut_anywhere_and_restored_it_decides_as_if_it_was_not(losses, cut, patience, delta):
    config = {"early_stopping_patience": patience, "early_stopping_min_delta": delta}
    end, whole = decide(losses, **config)
    first_end, first = decide(losses[:cut], **config)
    second = Stopping(TrainingConfig(**config))
    second.standing = second.read(json.loads(json.dumps(first.state())), Path("x"))
    assert second.due == bool(first_end)
    for number, loss in enumerate(losses[cut:], cut + 1):
        if second.due:
            break
        second.observe(10 * number, {"eval/loss": loss})
        if second.due:
            assert number == end
    assert second.standing == whole.standing


def test_more_patience_goes_on():
    stopping = decide([1.0, 1.0, 1.0], early_stopping_patience=2)[1]
    assert stopping.due
    stopping.config.early_stopping_patience = 3
    assert not stopping.due


@pytest.mark.parametrize("wish", [{"restore_best": True}, {"keep_best": 1}])
def test_a_metric_that_is_not_measured_is_named(wish):
    stopping = Stopping(TrainingConfig(best_metric="eval/bpb", **wish))
    with pytest.raises(ConfigError) as caught:
        stopping.observe(1, {"eval/perplexity": 2.0, "eval/loss": 1.0, "train/loss": 3.0})
    assert str(caught.value) == (
        "training.best_metric: expected a metric of the evaluations of this run, which are "
        'eval/loss, eval/perplexity, got "eval/bpb"; choose one of them'
    )
    Stopping(TrainingConfig(best_metric="eval/bpb")).observe(1, {"eval/loss": 1.0})


GOOD = {
    "metric": "eval/loss",
    "mode": "min",
    "best": 1.5,
    "best_step": 4,
    "bar": 1.5,
    "waited": 2,
}


@pytest.mark.parametrize(
    "saved",
    [
        [],
        "x",
        GOOD | {"more": 1},
        {k: v for k, v in GOOD.items() if k != "waited"},
        GOOD | {"best": "1.5"},
        GOOD | {"bar": True},
        GOOD | {"waited": -1},
        GOOD | {"best_step": 1.0},
        GOOD | {"mode": "auto"},
        GOOD | {"metric": 3},
    ],
    ids=str,
)
def test_what_is_no_standing_is_refused(saved):
    stopping = Stopping(TrainingConfig())
    assert stopping.read(GOOD, Path("x")).waited == 2
    with pytest.raises(CheckpointError) as caught:
        stopping.read(saved, Path("x"))
    assert str(caught.value).startswith(
        "x: expected the standing of the evaluations (stopping: metric, mode, best, best_step, "
        "bar, waited, looked), got "
    )


# --------------------------------------------------------------------------- runs


@pytest.fixture(autouse=True)
def _quick(monkeypatch, threads):
    threads(1)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def make(make_trainer, tokens):
    """Build a run that evaluates every second step; at this rate, it gets worse and better."""

    def build(folder="run", *, scheduler="constant", **config):
        parts = {
            "val_dataset": TokenDataset(tokens[:120], 16, vocab_size=17),
            "sinks": ["jsonl", "csv"],
            "scheduler": scheduler,
        }
        settings = {
            "max_steps": 30,
            "validation_frequency": 2,
            "learning_rate": 0.1,
            "resume": "auto",
            **config,
        }
        return make_trainer(folder=folder, parts=parts, **settings)

    return build


def evaluations(trainer):
    lines = metric_lines(trainer.run.path)
    return {
        int(line["step"]): line["eval/loss"]
        for line in lines
        if isinstance(line.get("eval/loss"), float)
    }


def summary(trainer):
    return json.loads((trainer.run.path / "summary.json").read_text())


def test_a_run_ends_early_with_all_that_a_run_ends_with(make):
    trainer = make(early_stopping_patience=2, early_stopping_min_delta=9.0)
    trainer.train()
    assert (trainer.current_step, trainer.stopped) == (6, "")
    assert list(evaluations(trainer)) == [2, 4, 6]
    found, bar = summary(trainer), evaluations(trainer)[2]
    assert found["status"] == "completed"
    assert found["stopped_by"] == trainer.stopping.reason
    assert trainer.stopping.reason == (
        f"eval/loss: of the last 2 evaluations, none was better than {bar:.6g} by more than 9"
    )
    assert found["best"] == trainer.stopping.summary()
    assert checkpoint.newest(trainer.run.checkpoints).name == "checkpoint-6"


def test_started_again_it_stays_ended_and_with_more_patience_it_goes_on(make):
    settings = {"early_stopping_min_delta": 9.0, "max_steps": 12}
    make(early_stopping_patience=2, **settings).train()
    again = make(early_stopping_patience=2, **settings)
    again.train()
    assert again.current_step == 6
    further = make(early_stopping_patience=4, **settings)
    further.train()
    assert further.current_step == 10
    whole = make("whole", early_stopping_patience=4, **settings)
    whole.train()
    assert not differences(whole.run.path, further.run.path)


def test_the_best_of_all_evaluations_comes_back(make):
    trainer = make(restore_best=True, keep_checkpoints=1, save_every=8, max_steps=20)
    trainer.train()
    losses = evaluations(trainer)
    assert trainer.stopping.ended == ""
    best = min(losses, key=losses.__getitem__)
    assert best not in (*range(0, 21, 8), 20), "the best is one that no interval saves"
    assert trainer.current_step == best == len(trainer.loss_history)
    assert trainer.validate(trainer.val_dataset) == losses[best]
    left = {path.name for path in trainer.run.checkpoints.iterdir()}
    assert left == {f"checkpoint-{best}", "checkpoint-20"}
    assert (summary(trainer)["steps"], summary(trainer)["best"]["step"]) == (20, best)


def test_the_best_that_is_the_last_stays(make, monkeypatch):
    trainer = make(restore_best=True, max_steps=6, save_every=2)
    loads = []
    monkeypatch.setattr(trainer.session, "restore", loads.append)
    trainer.train()
    assert (trainer.stopping.standing.best_step, loads) == (6, [])


def test_train_again_goes_on_from_the_best(make):
    trainer = make(restore_best=True, max_steps=18)
    trainer.train()
    before = evaluations(trainer)
    best = trainer.current_step
    assert best < 18
    trainer.train()
    assert evaluations(trainer) == before
    assert (trainer.current_step, checkpoint.newest(trainer.run.checkpoints).name) == (
        best,
        "checkpoint-18",
    )


def test_without_a_finite_evaluation_there_is_nothing_to_go_back_to(make, monkeypatch):
    trainer = make(restore_best=True, max_steps=4)
    monkeypatch.setattr(trainer.model, "step_loss", _nan_when_evaluated(trainer.model))
    with pytest.warns(RuntimeWarning) as caught:
        trainer.train()
    assert str(caught[-1].message) == (
        "training.restore_best: no value of eval/loss was finite; the parameters stay those of "
        "the last step"
    )
    assert trainer.current_step == 4


def _nan_when_evaluated(model):
    real = model.step_loss

    def step_loss(*arguments, train=True, **options):
        loss = real(*arguments, train=train, **options)
        return loss if train else math.nan

    return step_loss


STEERED = {
    "scheduler": (
        "reduce_on_plateau",
        {"factor": 0.5, "patience": 1, "cooldown": 1},
    ),
    "learning_rate": 0.03,
    "restore_best": True,
    "keep_checkpoints": 1,
    "early_stopping_patience": 2,
    "save_every": 3,
    "max_steps": 12,
}


def run_to(make, monkeypatch, folder, stop_at, **config):
    """Begin a run, and end it before the call of a number; return it and the names of all calls."""
    trainer, places = make(folder, **config), Places(stop_at)
    with monkeypatch.context() as patch:
        places.watch_all(trainer, patch)
        if stop_at:
            with pytest.raises(Interruption):
                trainer.train()
        else:
            trainer.train()
    return trainer, places.names


def test_cut_anywhere_a_steered_run_makes_the_same_decisions(make, monkeypatch):
    """Early stopping, the plateau, saving the best and going back, at every third call."""
    whole, calls = run_to(make, monkeypatch, "whole", 0, **STEERED)
    rates = [
        line["train/learning_rate"]
        for line in metric_lines(whole.run.path)
        if "train/learning_rate" in line
    ]
    assert (summary(whole)["steps"], whole.current_step) == (6, 3)
    assert summary(whole)["stopped_by"]
    assert rates[:6] == [0.03] * 4 + [0.015] * 2
    for number in range(1, len(calls) + 1, 3):
        folder = f"at{number}"
        _, names = run_to(make, monkeypatch, folder, number, **STEERED)
        where = f"before call {number}, {calls[number - 1]}"
        assert names[:number] == calls[:number], where
        again = make(folder, **STEERED)
        again.train()
        assert not differences(whole.run.path, again.run.path), where
        assert summary(again)["stopped_by"] == summary(whole)["stopped_by"], where
        assert again.current_step == whole.current_step, where
        assert again.stopping.ended == summary(whole)["stopped_by"], where
        assert np.array_equal(again.model.parameters.data, whole.model.parameters.data), where
        left = sorted(path.name for path in again.run.checkpoints.iterdir())
        assert left == sorted(path.name for path in whole.run.checkpoints.iterdir()), where


@pytest.mark.parametrize("evaluation", [1, 2, 3, 4])
def test_asked_to_leave_in_an_evaluation_it_is_made_again_and_decides_the_same(
    make, monkeypatch, evaluation
):
    whole = make("whole", **STEERED)
    whole.train()
    asked, real = make(**STEERED), Transformer.step_loss
    passes, first = [], -(-len(asked.val_dataset) // 3) * (evaluation - 1)

    def step_loss(model, *arguments, train=True, **options):
        passes.extend([] if train else [1])
        if not train and len(passes) == first + 1:
            signal.raise_signal(signal.SIGTERM)
        return real(model, *arguments, train=train, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Transformer, "step_loss", step_loss)
        asked.train()
    assert (asked.stopped, asked.stopping.ended) == ("SIGTERM", "")
    assert asked.current_step == [2, 3, 4, 6][evaluation - 1]  # and not back at the best
    again = make(**STEERED)
    again.train()
    assert not differences(whole.run.path, again.run.path)
    assert (again.current_step, again.stopping.ended) == (whole.current_step, whole.stopping.ended)


def test_a_run_that_goes_by_another_metric_begins_anew(make):
    make(max_steps=4).train()
    with pytest.warns(RuntimeWarning) as caught:
        again = make(max_steps=8, best_metric="eval/perplexity", early_stopping_patience=9)
    assert str(caught[0].message) == (
        f"{again.run.checkpoints / 'checkpoint-4' / 'trainer_state.json'}: the best so far is by "
        "eval/loss (min), and the run now goes by eval/perplexity (min): the best and its "
        "patience begin anew"
    )
    assert again.stopping.standing.best is None
    make(max_steps=8, best_metric="eval/perplexity")  # nobody asks


@pytest.mark.filterwarnings("ignore:the run goes on under other conditions:RuntimeWarning")
def test_a_scheduler_that_does_not_take_the_state_of_another_is_named(make):
    make(max_steps=4, scheduler=("reduce_on_plateau", {})).train()
    make(max_steps=4)  # a constant rate has no use for it
    state = make().run.checkpoints
    path = state / "checkpoint-4" / "trainer_state.json"
    saved = json.loads(path.read_text())
    assert saved["scheduler"]["reductions"] == 0
    trainer = make(scheduler=("reduce_on_plateau", {}))
    trainer.scheduler.load_state = lambda state: state["gone"]
    with pytest.raises(CheckpointError) as caught:
        trainer.load_checkpoint(state / "checkpoint-4")
    assert str(caught.value) == (
        f"{state / 'checkpoint-4'}: scheduler reduce_on_plateau does not take its saved state "
        "(KeyError: 'gone'); go on with the scheduler it was saved with"
    )


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("scheduler", "config", "message"),
    [
        (
            "constant",
            {"early_stopping_patience": 2, "validation_frequency": 0},
            "training.early_stopping_patience: expected evaluations on the way, got "
            "training.validation_frequency = 0; set the number of steps between two",
        ),
        (
            "reduce_on_plateau",
            {"validation_frequency": 0},
            "scheduler: expected evaluations on the way, got training.validation_frequency = 0; "
            "set the number of steps between two",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused(make, scheduler, config, message):
    with pytest.raises(ConfigError) as caught:
        make(scheduler=scheduler, **config)
    assert str(caught.value) == message
    make(scheduler=scheduler, **config | {"best_metric": "eval/loss"}, save_every=2, keep_best=1)


@pytest.mark.parametrize(
    ("parts", "config", "message"),
    [
        (
            {},
            {"early_stopping_patience": 2},
            "training.early_stopping_patience: expected validation data to go by, got none; give "
            "some, or do without",
        ),
        (
            {"scheduler": "reduce_on_plateau"},
            {},
            "scheduler: expected validation data to go by, got none; give some, or do without",
        ),
        (
            {},
            {"restore_best": True},
            "training.restore_best: expected validation data to compute eval/loss, got none; give "
            'some, or set training.best_metric = "train/loss"',
        ),
    ],
)
def test_without_validation_data_it_is_refused(make_trainer, parts, config, message):
    with pytest.raises(ConfigError) as caught:
        make_trainer(parts=parts, validation_frequency=2, **config)
    assert str(caught.value) == message


class Raising(Sink):
    """Takes no evaluation of step 4."""

    def open(self, run):
        pass

    def write(self, step, metrics):
        if step == 4 and "eval/loss" in metrics:
            raise OSError("no room")


def test_an_evaluation_that_a_sink_refuses_counts_when_the_run_goes_on(make_trainer, tokens):
    settings = {
        "validation_frequency": 2,
        "early_stopping_patience": 2,
        "early_stopping_min_delta": 9.0,
        "max_steps": 20,
        "resume": "auto",
        "on_sink_error": "fail",
    }
    data = TokenDataset(tokens[:120], 16, vocab_size=17)

    def run(folder, *sinks):
        parts = {"val_dataset": data, "sinks": sinks}
        return make_trainer(folder=folder, parts=parts, **settings)

    whole = run("whole")
    whole.train()
    with pytest.raises(SinkError, match="no room"):
        run("cut", Raising()).train()
    again = run("cut")
    again.train()
    assert again.current_step == whole.current_step == 6


def test_the_best_by_bytes_needs_a_tokenizer(make):
    with pytest.raises(ConfigError) as caught:
        make(early_stopping_patience=2, best_metric="eval/bpb")
    assert str(caught.value) == (
        "training.best_metric: expected a tokenizer, which counts the bytes of eval/bpb, got "
        'none; give the Trainer one, or set training.best_metric = "eval/loss"'
    )


# --------------------------------------------------------------------------- the loss of training

BY_LOSS = {
    "best_metric": "train/loss",
    "early_stopping_patience": 2,
    "early_stopping_min_delta": 0.2,
    "validation_frequency": 3,
    "learning_rate": 1e-3,
    "max_steps": 60,
    "resume": "auto",
}


def test_a_run_ends_by_the_mean_of_its_losses_between_two_looks(make_trainer):
    trainer = make_trainer(**BY_LOSS)  # no data to validate on
    trainer.train()
    losses = trainer.loss_history
    assert len(losses) % 3 == 0
    means = [sum(losses[i : i + 3]) / 3 for i in range(0, len(losses), 3)]
    number, stopping = decide(
        means,
        metric="train/loss",
        early_stopping_patience=2,
        early_stopping_min_delta=0.2,
    )
    assert (number, 3 * number) == (len(means), trainer.current_step)
    assert trainer.current_step < 60
    assert trainer.stopping.ended == stopping.reason
    assert "train/loss: of the last 2 means, none was better than" in trainer.stopping.ended


@pytest.mark.parametrize("stop", range(1, 8))
def test_the_loss_of_training_decides_the_same_after_a_resume(make_trainer, stop):
    whole = make_trainer(folder="whole", **BY_LOSS)
    whole.train()

    class Stop(Sink):
        def open(self, run):
            pass

        def write(self, step, metrics):
            if step == stop:
                os.kill(os.getpid(), signal.SIGTERM)

    cut = make_trainer(folder="cut", parts={"sinks": (Stop(),)}, **BY_LOSS)
    cut.train()
    assert cut.current_step == stop
    again = make_trainer(folder="cut", **BY_LOSS)
    again.train()
    assert again.current_step == whole.current_step
    assert again.stopping.standing == whole.stopping.standing


def test_the_best_by_the_loss_of_training_is_kept_and_gone_back_to(make_trainer):
    settings = BY_LOSS | {"early_stopping_patience": 0, "max_steps": 12, "restore_best": True}
    trainer = make_trainer(**settings | {"learning_rate": 0.3})
    trainer.train()
    best = trainer.stopping.summary()
    assert trainer.current_step == best["step"]
    found = checkpoint.find(trainer.run.path / "best")
    assert found.manifest.metrics["train/loss"] == best["value"]
    assert found.manifest.step == best["step"]
