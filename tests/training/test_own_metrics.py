"""A part's own metric: shown everywhere, and something that a run can go by."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tisslm import checkpoint
from tisslm.contracts import Figure, Metric, Monitor, Stateful
from tisslm.errors import CheckpointError, ConfigError, PluginError
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.tracking.report import catalogue
from tisslm.tracking.report.reading import read_run
from tisslm.tracking.sinks.console import ConsoleSink
from tisslm.tracking.sinks.memory import MemorySink
from tisslm.tracking.terminal.attached_run import Attached
from tisslm.tracking.terminal.ink import Ink
from tisslm.tracking.terminal.numbers import numbers

TEMPERATURE = Metric(
    "contrastive/temperature",
    "temperature",
    format="{:.2f}",
    line="temp {:.3f}",
    better="max",
    figure=Figure("temperature", "Temperature", "Of the softmax.", "Optimization", log=True),
)


class Contrastive(CrossEntropy):
    """A loss with a temperature that rises to 3 at the third step, and then falls."""

    declares = (TEMPERATURE,)

    def __init__(self):
        super().__init__()
        self.calls = 0

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        self.calls += gradient
        return super().tile(logits_NV, targets_N, weights_N, gradient=gradient)

    def metrics(self):
        return {"contrastive/temperature": 3.0 - abs(3 - self.calls)}

    def state(self):
        return {"calls": self.calls}

    def load_state(self, state):
        self.calls = state["calls"]


class Raising(Contrastive):
    def metrics(self):
        if self.calls > 2:
            raise RuntimeError("no temperature today")
        return super().metrics()


class Undeclared(Contrastive):
    def metrics(self):
        return {"contrastive/other": 1.0}


class Wordy(Contrastive):
    def metrics(self):
        return {"contrastive/temperature": "warm"}


def make(make_trainer, loss, sinks=(), **config):
    return make_trainer(parts={"loss_fn": loss, "sinks": sinks}, logging_steps=1, **config)


def test_it_is_on_the_console_in_the_file_and_in_the_report(make_trainer):
    stream = io.StringIO()
    sinks = [ConsoleSink(style="lines", every=1, stream=stream), "jsonl"]
    trainer = make(make_trainer, Contrastive(), sinks)
    trainer.train()
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("step")]
    assert ["temp 1.000" in lines[0], "temp 3.000" in lines[2]] == [True, True]
    rows = map(json.loads, (trainer.run.path / "metrics.jsonl").read_text().splitlines())
    assert [row["contrastive/temperature"] for row in rows] == [1.0, 2.0, 3.0, 2.0, 1.0, 0.0]

    run = read_run(trainer.run.path)
    (chart,) = (c for c in catalogue.curves(run) if c.slug == "own-temperature")
    told = (chart.title, chart.about, chart.section, chart.log)
    assert told == ("Temperature", "Of the softmax.", "Optimization", True)
    assert chart.lines[0].series.y.tolist() == [1.0, 2.0, 3.0, 2.0, 1.0, 0.0]
    assert catalogue.others(run) == ([], [])
    assert "own-temperature" in {chart.slug for chart in catalogue.comparison([run, run])}

    top = Attached(trainer.run.path)
    top.refresh()
    shown = dict(numbers(top.history, 6, Ink.of(io.StringIO()).glyphs))
    assert shown["temperature"] == [("0.00", "")]


def test_it_is_asked_at_logged_steps(make_trainer):
    sink = MemorySink()
    trainer = make_trainer(parts={"loss_fn": Contrastive(), "sinks": [sink]}, logging_steps=4)
    trainer.train()
    assert sink.values("contrastive/temperature") == [(4, 2.0), (6, 0.0)]


def test_a_run_ends_by_it_and_goes_back_to_the_best(make_trainer):
    config = {
        "best_metric": "contrastive/temperature",
        "early_stopping_patience": 2,
        "restore_best": True,
        "validation_frequency": 1,
    }
    trainer = make(make_trainer, Contrastive(), ["jsonl"], **config)
    trainer.train()
    assert trainer.stopping.summary() == {
        "metric": "contrastive/temperature",
        "value": 3.0,
        "step": 3,
    }
    assert trainer.stopping.ended == (
        "contrastive/temperature: of the last 2 values, none was better than 3"
    )
    assert trainer.current_step == 3
    assert trainer.loss_fn.calls == 3
    assert checkpoint.best(trainer.run.path).name == "checkpoint-3"


def test_the_best_by_it_are_kept_and_found_in_the_direction_it_declares(make_trainer):
    config = {"best_metric": "contrastive/temperature", "keep_best": 1, "keep_checkpoints": 1}
    trainer = make(make_trainer, Contrastive(), save_every=1, **config)
    trainer.train()
    kept = sorted(path.name for path in trainer.run.checkpoints.iterdir())
    assert kept == ["checkpoint-3", "checkpoint-6"]
    assert checkpoint.find(trainer.run.path / "best").path.name == "checkpoint-3"
    (trainer.run.path / "declared_metrics.json").write_text('{"metrics": 3}')
    with pytest.raises(CheckpointError, match="the declared metrics cannot be read"):
        checkpoint.find(trainer.run.path / "best")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Raising, "RuntimeError: no temperature today"),
        (
            Undeclared,
            "PluginError: metric 'contrastive/other' is not among those that it declares",
        ),
        (
            Wordy,
            "PluginError: metric 'contrastive/temperature': expected a real number, got str",
        ),
    ],
)
def test_a_part_that_raises_is_named_once_and_left_out(make_trainer, same_bits, loss, message):
    sink = MemorySink()
    trainer = make(make_trainer, loss(), [sink], folder="with")
    other = make(make_trainer, CrossEntropy(), folder="without")
    with pytest.warns(RuntimeWarning, match="switched off") as caught:
        trainer.train()
    other.train()
    said = [str(w.message) for w in caught]
    assert said == [f"the metrics of loss {loss.__name__} are switched off: {message}"]
    assert len(sink.values("train/loss")) == 6
    assert same_bits(trainer, other)


def test_a_metric_of_a_part_does_not_change_the_run(make_trainer, same_bits):
    trainer = make(make_trainer, Contrastive(), folder="with")
    other = make(make_trainer, CrossEntropy(), folder="without")
    trainer.train()
    other.train()
    assert same_bits(trainer, other)
    assert not (other.run.path / "declared_metrics.json").exists()


class Watching(Monitor):
    wants = frozenset({"weights"})
    declares = (Metric("noise/scale", "noise scale", better="min"),)

    def observe(self, site, array):
        pass

    def metrics(self):
        return {"noise/scale": 1.5}


def test_what_a_monitor_declares_is_shown_and_asked_at_its_own_steps(make_trainer):
    sink = MemorySink()
    parts = {"sinks": [sink, "jsonl"], "monitors": [Watching()]}
    trainer = make_trainer(parts=parts, logging_steps=1, monitor_steps=3)
    trainer.train()
    assert sink.values("noise/scale") == [(3, 1.5), (6, 1.5)]
    charts = catalogue.curves(read_run(trainer.run.path))
    assert [c.title for c in charts if c.slug.startswith("own-")] == ["noise scale"]


BEST = (
    'training.best_metric: expected "eval/loss", "eval/perplexity", "eval/bpb", '
    '"eval/accuracy", "eval/top5_accuracy", "eval/recall_at_1", "eval/recall_at_5", '
    '"eval/recall_at_10", "eval/accuracy_at_1", "eval/accuracy_at_5", "eval/accuracy_at_10", '
    '"eval/mrr_at_10", "eval/ndcg_at_10", "eval/triplet_accuracy", "eval/spearman", '
    '"eval/pearson", "eval/ema_loss", "eval/ema_accuracy", "eval/ema_ndcg_at_10", '
    '"eval/ema_spearman", "eval/rewards/accuracies", "eval/rewards/margins" or "train/loss", '
    "or a metric that the parts of this run declare, which "
)


class Neutral(Contrastive):
    declares = (Metric("contrastive/temperature", "temperature"),)


@pytest.mark.parametrize(
    ("loss", "config", "message"),
    [
        (
            CrossEntropy,
            {"best_metric": "contrastive/temperature"},
            f'{BEST}are none; got "contrastive/temperature"',
        ),
        (
            Contrastive,
            {"best_metric": "contrastive/heat"},
            f'{BEST}are "contrastive/temperature"; got "contrastive/heat"',
        ),
        (
            Neutral,
            {"best_metric": "contrastive/temperature"},
            'training.best_mode: expected "min" or "max", since contrastive/temperature does not '
            'say which is better, got "auto"',
        ),
    ],
)
def test_a_best_metric_that_nobody_has_is_refused(make_trainer, loss, config, message):
    with pytest.raises(ConfigError) as caught:
        make(make_trainer, loss(), **config)
    assert str(caught.value) == message


def test_a_metric_of_a_monitor_alone_cannot_be_the_best(make_trainer):
    with pytest.raises(ConfigError, match="which are none"):
        make_trainer(parts={"monitors": [Watching()]}, best_metric="noise/scale")


def test_a_direction_of_the_configuration_is_enough(make_trainer):
    config = {"best_metric": "contrastive/temperature", "best_mode": "min"}
    trainer = make(make_trainer, Neutral(), validation_frequency=1, **config)
    trainer.train()
    assert trainer.stopping.summary()["value"] == 0.0


def declaring(*metrics):
    return type("Declaring", (CrossEntropy,), {"declares": metrics})()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            declaring(Metric("train/temperature", "temperature")),
            "loss Declaring: metric 'train/temperature': expected a group of its own, got 'train', "
            "which the Trainer has; rename it",
        ),
        (
            declaring("contrastive/temperature"),
            "loss Declaring: declares: expected tisslm.contracts.Metric, got "
            "'contrastive/temperature'",
        ),
        (
            declaring(Metric("noise/scale", "another")),
            "monitor Watching: metric 'noise/scale' is declared by loss Declaring, too; rename one "
            "of them",
        ),
    ],
)
def test_a_declaration_that_cannot_be_is_one_sentence(make_trainer, loss, message):
    with pytest.raises(PluginError) as caught:
        make_trainer(parts={"loss_fn": loss, "monitors": [Watching()]})
    assert str(caught.value) == message


def test_it_goes_on_after_a_resume(make_trainer):
    config = {
        "best_metric": "contrastive/temperature",
        "validation_frequency": 1,
        "save_every": 2,
    }
    whole = make(make_trainer, Contrastive(), folder="whole", **config)
    whole.train()
    cut = make(make_trainer, Contrastive(), folder="cut", **config)
    cut.load_checkpoint(whole.run.checkpoints / "checkpoint-2")
    cut.train()
    assert cut.stopping.standing == whole.stopping.standing


def test_a_report_of_damaged_declarations_says_so(make_trainer):
    trainer = make(make_trainer, Contrastive(), ["jsonl"])
    trainer.train()
    path = trainer.run.path / "declared_metrics.json"
    for odd in ('{"metrics": [{"name": "x"}]}', "[]", '{"metrics": [{"name": 1, "label": 2}]}'):
        path.write_text(odd)
        run = read_run(trainer.run.path)
        assert "declared_metrics.json: left out of the report" in run.problems.sentences[0]
        assert [chart.title for chart in catalogue.others(run)[0]] == ["contrastive/temperature"]


def test_a_part_without_metrics_gives_none():
    assert (Stateful().metrics(), tuple(Stateful.declares)) == ({}, ())
    assert np.isfinite(Contrastive().metrics()["contrastive/temperature"])


def test_the_documented_example_does_what_it_says(make_trainer, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "plugin-hooks.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    code = [text for text in blocks if "class Brier(" in text or "class Tempered(" in text]
    (tmp_path / "documented_loss.py").write_text("\n".join(code))
    spec = importlib.util.spec_from_file_location("documented", tmp_path / "documented_loss.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sink = MemorySink()
    trainer = make(make_trainer, module.Tempered(), [sink])
    trainer.train()
    temperatures = [value for _, value in sink.values("tempered/temperature")]
    assert temperatures == pytest.approx([2.0 * 0.99**step for step in range(1, 7)], rel=1e-12)
