"""The metrics of a step: each is what it says, and comes back the same after an interruption."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from checkpoints import reseal
from interruptions import OF_THE_MACHINE

from tisslm import TokenDataset, ops
from tisslm.contracts import Optimizer
from tisslm.ops import runtime
from tisslm.system.memory_limit import resident
from tisslm.tracking.sinks.memory import MemorySink

GIB = 2.0**30


def lines_of(trainer, sink):
    trainer.train()
    return [row for row in sink.rows if "train/loss" in row]


def test_every_metric_of_a_step(make_trainer):
    sink = MemorySink()
    trainer = make_trainer(parts={"sinks": [sink]}, max_steps=3)
    lines = lines_of(trainer, sink)
    expected = {
        "step",
        "train/loss",
        "train/perplexity",
        "train/learning_rate",
        "train/grad_norm",
        "train/grad_norm_clipped_fraction",
        "train/param_norm",
        "train/update_ratio",
        "train/epoch",
        "train/num_input_tokens_seen",
        "train/skipped_steps",
        "train/tokens_per_second",
        "train/step_time_ms",
        "train/data_time_ms",
        "train/tflops",
        "memory/rss_gib",
        "memory/peak_rss_gib",
        "memory/planned_gib",
        "memory/imports_gib",
    }
    if ops.peak_gflops("fp32") is not None:
        expected.add("train/mfu")
    for line in lines:
        assert set(line) - {"system/cpu_percent"} == expected


def test_the_ratio_is_that_of_the_update_to_the_parameters_before_it(make_trainer):
    sink = MemorySink()
    trainer = make_trainer(parts={"sinks": [sink]}, max_steps=4, logging_steps=2)
    data = trainer.model.parameters.data
    before = []
    step = type(trainer.optimizer).update

    def update(grad_scale):
        before.append(data.astype(np.float64))
        step(trainer.optimizer, grad_scale)

    trainer.optimizer.update = update
    lines = lines_of(trainer, sink)
    before.append(data.astype(np.float64))
    for line, n in zip(lines, (1, 3), strict=True):
        size = np.sqrt(np.square(before[n]).sum())
        assert line["train/param_norm"] == pytest.approx(size, rel=1e-9)
        moved = np.sqrt(np.square(before[n + 1] - before[n]).sum())
        assert line["train/update_ratio"] == pytest.approx(moved / size, rel=1e-9)


def test_an_optimizer_that_does_not_measure_lacks_the_ratio(make_trainer):
    class Plain(Optimizer):
        def update(self, grad_scale):
            self.parameters.data[...] -= self.get_lr() * self.parameters.grad

    sink = MemorySink()
    trainer = make_trainer(parts={"sinks": [sink]}, max_steps=2)
    optimizer = Plain(trainer.model.parameters, 0.1)
    other = make_trainer(
        folder="other",
        parts={"sinks": [sink], "optimizer": optimizer, "model": trainer.model},
        max_steps=2,
    )
    (line, _) = lines_of(other, sink)
    assert not {"train/update_ratio", "train/param_norm"} & set(line)


def test_measuring_changes_no_bit(make_trainer, same_bits):
    often = make_trainer(logging_steps=1)
    never = make_trainer(folder="other", logging_steps=1000)
    often.train()
    never.train()
    assert same_bits(often, never)


def test_the_clipped_fraction_is_of_the_updates_since_the_last_line(make_trainer, monkeypatch):
    sink = MemorySink()
    trainer = make_trainer(parts={"sinks": [sink]}, max_steps=8, logging_steps=3, max_grad_norm=0.5)
    norms = iter([0.2, 0.7, 0.9, 0.1, 0.2, 0.6, 0.3, 0.4])
    monkeypatch.setattr(trainer.scaler, "norm", lambda: next(norms))
    fractions = [line["train/grad_norm_clipped_fraction"] for line in lines_of(trainer, sink)]
    assert fractions == [pytest.approx(2 / 3), pytest.approx(1 / 3), 0.0]


def test_without_clipping_there_is_no_fraction(make_trainer):
    sink = MemorySink()
    trainer = make_trainer(parts={"sinks": [sink]}, max_steps=1, max_grad_norm=0)
    assert "train/grad_norm_clipped_fraction" not in lines_of(trainer, sink)[0]


def test_a_run_that_goes_on_between_two_lines_has_the_same_lines(make_trainer, tokens):
    held_out = TokenDataset(tokens[:100], 16, vocab_size=17)
    common = {"logging_steps": 4, "max_steps": 12, "save_every": 5, "max_grad_norm": 0.3}

    def lines(folder, **settings):
        sink = MemorySink()
        parts = {"sinks": [sink], "val_dataset": held_out}
        trainer = make_trainer(folder=folder, parts=parts, **common, **settings)
        trainer.train()
        found = [dict(row) for row in sink.rows]
        for row in found:
            for name in list(row):
                if name in OF_THE_MACHINE or name.startswith("memory/"):
                    del row[name]
        return found, trainer

    whole, trainer = lines("whole")
    saved = trainer.run.checkpoints / "checkpoint-5"
    state = json.loads((saved / "trainer_state.json").read_text())
    assert (state["reported_step"], state["clipped_updates"]) == (4, 1)
    rest, _ = lines("rest", resume=str(saved))
    assert rest == [row for row in whole if row["step"] > 5]


@pytest.mark.filterwarnings("ignore:the run goes on under other conditions:RuntimeWarning")
def test_a_checkpoint_that_has_no_counts_goes_on_from_its_step(make_trainer):
    first = make_trainer(max_grad_norm=1e-6)
    first.train()
    path = first.run.checkpoints / "checkpoint-6" / "trainer_state.json"
    state = json.loads(path.read_text())
    for name in ("clipped_updates", "reported_step", "sampled_step"):
        del state[name]
    path.write_text(json.dumps(state))
    reseal(path.parent)
    sink = MemorySink()
    rest = make_trainer(
        folder="rest",
        parts={"sinks": [sink]},
        max_grad_norm=1e-6,
        max_steps=8,
        logging_steps=8,
        resume=str(path.parent),
    )
    (line,) = lines_of(rest, sink)
    assert line["train/grad_norm_clipped_fraction"] == 1.0


def test_figures_of_the_machine(make_trainer, tokens):
    sink = MemorySink()
    trainer = make_trainer(parts={"sinks": [sink]}, max_steps=3)
    lines = lines_of(trainer, sink)
    flops = trainer.model.flops_per_token(16)
    peak = ops.peak_gflops("fp32")
    for line in lines:
        speed = line["train/tokens_per_second"]
        assert line["train/tflops"] == pytest.approx(flops * speed / 1e12)
        if peak is not None:
            assert line["train/mfu"] == pytest.approx(flops * speed / (peak * 1e9))
        assert 0 < line["train/data_time_ms"] < line["train/step_time_ms"]
        assert line["memory/planned_gib"] == trainer.planned / GIB
        assert 0 < line["memory/planned_gib"] < resident() / GIB
        assert line["memory/imports_gib"] == trainer.imports / GIB
        assert trainer.planned + trainer.imports == pytest.approx(resident(), rel=0.2)


def test_a_model_in_float64_has_no_share_of_the_peak(make_trainer, make_model):
    sink = MemorySink()
    trainer = make_trainer(
        parts={"sinks": [sink], "model": make_model(dtype="float64")}, max_steps=1
    )
    (line,) = lines_of(trainer, sink)
    assert "train/tflops" in line
    assert "train/mfu" not in line


def test_the_peak_is_measured_once(monkeypatch):
    if ops.peak_gflops("fp32") is None:
        pytest.skip("no kernels of our own")
    monkeypatch.setattr(runtime, "compiled", lambda module: pytest.fail(f"{module} is asked again"))
    monkeypatch.setattr(runtime, "REFERENCE_ONLY", False)
    key = ("fp32", ops.thread_count().count)
    assert runtime._peaks[key] > 0


def test_the_summary_has_the_names_of_other_trainers(make_trainer, tokens):
    held_out = TokenDataset(tokens[:100], 16, vocab_size=17)
    trainer = make_trainer(parts={"val_dataset": held_out}, max_steps=5)
    trainer.train()
    summary = json.loads((trainer.run.path / "summary.json").read_text())
    seconds = summary["train_runtime"]
    assert seconds == summary["seconds"] > 0
    assert summary["train_samples_per_second"] == pytest.approx(15 / seconds)
    assert summary["train_steps_per_second"] == pytest.approx(5 / seconds)
    assert summary["train_tokens_per_second"] == pytest.approx(15 * 16 / seconds)
    assert summary["total_flos"] == trainer.model.flops_per_token(16) * 15 * 16
    assert summary["train_loss"] == trainer.loss_history[-1]


def test_evaluations_have_accuracy_and_the_checkpoint_keeps_it(make_trainer, tokens):
    held_out, sink = TokenDataset(tokens[:200], 16, vocab_size=17), MemorySink()
    trainer = make_trainer(
        parts={"val_dataset": held_out, "sinks": [sink]}, max_steps=2, eval_batches=2
    )
    trainer.train()
    (row,) = [row for row in sink.rows if "eval/loss" in row]
    assert set(row) == {
        "step",
        "eval/loss",
        "eval/perplexity",
        "eval/accuracy",
        "eval/top5_accuracy",
        "eval/runtime",
        "eval/samples_per_second",
    }
    kept = {name: row[name] for name in row if name not in (*OF_THE_MACHINE, "step")}
    assert trainer.state.evaluation == {"step": 2, **kept}
    assert row["eval/samples_per_second"] == pytest.approx(6 / row["eval/runtime"])
    assert math.exp(row["eval/loss"]) == row["eval/perplexity"]
