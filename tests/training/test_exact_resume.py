"""Interrupted anywhere and resumed, a run leaves the files of the uninterrupted one, bit for bit.

43 windows in updates of 2 x 3 rows: an epoch is 8 updates, and the last of them has one row, in
one micro-batch.
"""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from interruptions import Interruption, Places, differences
from tisslm_extras.wsd import WSD
from tisslm_lion.lion import Lion
from tisslm_optimizers.adam8bit import Adam8bit
from tisslm_optimizers.muon import Muon
from tisslm_optimizers.schedule_free import ScheduleFreeAdamW

from tisslm import TokenDataset
from tisslm.registry import load_registry
from tisslm.training.session import Session

STEPS = 11
SETTINGS = {
    "max_steps": STEPS,
    "gradient_accumulation_steps": 2,
    "save_every": 4,
    "validation_frequency": 3,
    "log_gradients": True,
    "monitor_steps": 1,
    "resume": "auto",
}

OPTIMIZERS = [
    "sgd",
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    "adam",
    "adamw",
    "rmsprop",
    ("rmsprop", {"momentum": 0.9, "centered": True}),
    lambda model: Lion(model.parameters, 1e-2),
    lambda model: ScheduleFreeAdamW(model.parameters, 1e-2),
    lambda model: Muon(model.parameters, 1e-2),
    lambda model: Adam8bit(model.parameters, 1e-2, full_below=500),
]
SCHEDULERS = [
    "constant",
    ("step", {"step_size": 3}),
    "exponential",
    "cosine",
    ("cosine_restarts", {"cycles": 2}),
    "polynomial",
    ("inverse_sqrt", {"warmup_steps": 3}),
    "warmup_linear",
    "warmup_cosine",
    ("reduce_on_plateau", {"patience": 1, "min_delta": 9.0, "factor": 0.5}),
    lambda model: WSD(Lion(model.parameters, 1e-2), max_steps=STEPS),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch, threads):
    """Small models are fastest on one thread; and nothing here is about what a disk keeps."""
    threads(1)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def name_of(part):
    return getattr(part, "__name__", None) or str(part)


@pytest.fixture
def make(make_trainer, make_model, tokens):
    """Build a run with validation and two files of metrics."""

    def build(folder, *, optimizer="adamw", scheduler="warmup_cosine", dropout=0.1, **config):
        model = make_model(dropout=dropout)
        optimizer = optimizer(model) if callable(optimizer) else optimizer
        if callable(scheduler):
            scheduler = scheduler(model)
            optimizer = scheduler.optimizer
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        parts["val_dataset"] = TokenDataset(tokens[:120], 16, vocab_size=17)
        parts["sinks"] = ["jsonl", "csv"]
        return make_trainer(folder=folder, parts=parts, **{**SETTINGS, **config})

    return build


@pytest.fixture
def interrupt(make, monkeypatch):
    """Begin a run, and end it before the call of a number; return the names of all calls."""

    def begin(folder, stop_at, **config):
        places = Places(stop_at)
        trainer = make(folder, **config)
        with monkeypatch.context() as patch:
            places.watch_all(trainer, patch)
            if not stop_at:
                trainer.train()
                return trainer, places.names
            with pytest.raises(Interruption):
                trainer.train()
        return trainer, places.names

    return begin


def test_interrupted_at_every_place_a_run_leaves_the_same_files(interrupt, make):
    config = {"max_steps": 3, "save_every": 2, "validation_frequency": 2, "keep_checkpoints": 1}
    whole, places = interrupt("whole", 0, **config)
    assert {"train_step", "step_loss", "update", "write_file", "rename", "remove"} <= set(places)
    assert len(places) > 40
    for number in range(1, len(places) + 1):
        folder = f"at{number}"
        _, names = interrupt(folder, number, **config)
        where = f"before call {number}, {places[number - 1]}"
        assert names[:number] == places[:number], where
        again = make(folder, **config)
        again.train()
        assert not differences(whole.run.path, again.run.path), where
        left = sorted(path.name for path in again.run.checkpoints.iterdir())
        assert left == ["checkpoint-3"], where


def test_a_run_makes_the_same_calls_however_long_they_take(interrupt, monkeypatch):
    """Otherwise a number of a call is not the same place in two runs."""
    config = {"max_steps": 3, "save_every": 2, "validation_frequency": 2}
    _, places = interrupt("quick", 0, **config)
    real = Session.train_step

    def train_step(session, rows):
        time.sleep(0.6 if session.state.step == 1 else 0.0)
        return real(session, rows)

    monkeypatch.setattr(Session, "train_step", train_step)
    _, others = interrupt("slow", 0, **config)
    assert others == places


def call(places, name, number):
    """Return the number, among all calls, of the n-th of a name, from 1."""
    return [i for i, found in enumerate(places, 1) if found == name][number - 1]


def test_interrupted_at_every_step_over_the_end_of_an_epoch(interrupt, make):
    whole, places = interrupt("whole", 0)
    assert json.loads((whole.run.path / "summary.json").read_text())["steps"] == STEPS
    assert whole.current_epoch == 1
    for step in range(1, STEPS + 1):
        first, _ = interrupt(f"step{step}", call(places, "train_step", step))
        assert first.current_step == step - 1
        again = make(f"step{step}")
        assert again.current_step == (step - 1) // 4 * 4
        again.train()
        assert not differences(whole.run.path, again.run.path), step


def test_interrupted_again_and_again(interrupt, make):
    whole, _ = interrupt("whole", 0)
    rng = np.random.default_rng(8)
    resumed = []
    for _ in range(60):
        trainer = make("again")
        resumed.append(trainer.current_step)
        with pytest.MonkeyPatch.context() as patch:
            Places(int(rng.integers(1, 70))).watch_all(trainer, patch)
            try:
                trainer.train()
                break
            except Interruption:
                pass
    assert trainer.current_step == STEPS
    assert len(set(resumed)) >= 3
    assert not differences(whole.run.path, trainer.run.path)


PRECISIONS = ["fp32", "bf16", "fp16"]


def check(interrupt, make, set_threads=None, **config):
    """Interrupt in the middle of the accumulation window of step 7, and go on from step 4."""
    threads = set_threads or (lambda _: None)
    threads(2)
    whole, places = interrupt("whole", 0, **config)
    window = call(places, "train_step", 7)
    second = window + [i for i, name in enumerate(places[window:], 1) if name == "step_loss"][1]
    threads(3)
    first, names = interrupt("again", second, **config)
    assert names[:second] == places[:second]
    assert (names[second - 1], first.current_step) == ("step_loss", 6)
    threads(1)
    again = make("again", **config)
    assert again.current_step == 4
    again.train()
    assert not differences(whole.run.path, again.run.path)
    return whole


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
def test_in_the_middle_of_a_window_for_every_optimizer(interrupt, make, optimizer, precision):
    scheduler = "constant" if callable(optimizer) else "warmup_cosine"
    given = {"optimizer": optimizer, "scheduler": scheduler, "precision": precision}
    if callable(optimizer):
        given = {
            "scheduler": lambda model: WSD(optimizer(model), max_steps=STEPS),
            "precision": precision,
        }
    check(interrupt, make, **given)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=name_of)
def test_in_the_middle_of_a_window_for_every_scheduler(interrupt, make, scheduler):
    check(interrupt, make, scheduler=scheduler)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_onto_other_numbers_of_threads(interrupt, make, threads, precision, dropout):
    check(interrupt, make, threads, precision=precision, dropout=dropout)


def test_every_built_in_part_is_among_them():
    registry = load_registry()
    for kind, tried in (("optimizer", OPTIMIZERS), ("scheduler", SCHEDULERS)):
        built_in = {
            part.entry.name
            for part in registry.entries(kind)
            if part.provider.distribution == "tisslm"
        }
        names = {part if isinstance(part, str) else part[0] for part in tried if not callable(part)}
        assert built_in <= names, kind
