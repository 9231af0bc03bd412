"""Any step of a run is made again bit for bit, from the nearest checkpoint, and compared."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal

import numpy as np
import pytest
from poison import Poison

from tisslm import ops
from tisslm.contracts import PassObserver, Scheduler
from tisslm.errors import CheckpointError, ConfigError, DataError, NonFiniteError, SpikeError
from tisslm.optim.optimizers import AdamW
from tisslm.training.refusals.incident_files import set_aside
from tisslm.workflows.replay import incident_files, read_incident, replay


def files_of(folder):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(params=["plain", "bf16", "fp16 checkpointing", "documents"])
def way(request, packed):
    return {
        "plain": {},
        "bf16": {"precision": "bf16"},
        "fp16 checkpointing": {"precision": "fp16", "activation_checkpointing": "full"},
        "documents": {"dataset": packed},
    }[request.param]


def passing_fault() -> Poison:
    """A NaN that the search after it does not find again."""
    place = ("attention_forward", "blocks.0.attention", "forward", "lse_BHT", (0, 0, 0))
    return Poison(*place, micros=2, times=1)


def test_every_step_has_the_bits_of_the_run(make_trainer, way):
    run = make_trainer(**way)
    run.train()
    before = files_of(run.run.path)
    for step in (1, 3, 5, 9):
        done = replay(make_trainer(**way), step)
        first = 1 + (step - 1) // 3 * 3
        assert [one.step for one in done.steps] == list(range(first, step + 1))
        assert [one.loss for one in done.steps] == run.loss_history[first - 1 : step]
        assert all(one.is_same is True and one.applied for one in done.steps)
        begin = run.run.checkpoints / f"checkpoint-{first - 1}"
        assert done.start == ("" if first == 1 else str(begin))
        assert done.checkpoint == (
            str(run.run.checkpoints / f"checkpoint-{step}") if step % 3 == 0 else ""
        )
        assert done.is_same
    assert files_of(run.run.path) == before


def test_steps_that_fp16_skipped_are_skipped_again(make_trainer):
    half = {"precision": "fp16", "loss_scale_init": 2**24, "loss_scale_growth_interval": 2}
    run = make_trainer(**half)
    run.train()
    assert run.skipped_steps > 3
    shutil.rmtree(run.run.checkpoints / "checkpoint-3")
    done = replay(make_trainer(**half), 5)
    assert done.is_same
    assert not done.steps[0].applied
    assert [one.step for one in done.steps if one.applied] == [1, 2, 3, 4, 5]


def test_a_loss_that_is_not_the_runs_is_told(make_trainer):
    run = make_trainer(save_every=0)
    run.train()
    lines = (run.run.path / "metrics.jsonl").read_text().splitlines()
    changed = json.loads(lines[3])
    changed["train/loss"] = float(np.nextafter(changed["train/loss"], 9))
    lines[3] = json.dumps(changed)
    (run.run.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    done = replay(make_trainer(save_every=0), 5)
    assert [one.is_same for one in done.steps] == [True, True, True, False, True]
    assert not done.is_same


def test_a_parameter_that_is_not_the_checkpoints_is_named(make_trainer):
    make_trainer().train()
    again = make_trainer()
    again.model.parameters["final_norm.bias"].data[2] = 1.0  # which the run's was not
    done = replay(again, 3)
    assert done.differences[:1] == ["embedding.token.weight"]
    assert [one.is_same for one in done.steps] == [False] * 3
    assert not done.is_same


def test_without_metrics_the_losses_of_checkpoints_are_the_record(make_trainer):
    run = make_trainer(parts={"sinks": ()}, logging_steps=2)
    run.train()
    done = replay(make_trainer(parts={"sinks": ()}), 5)
    assert [one.recorded_loss for one in done.steps] == run.loss_history[3:5]
    assert done.steps[0].recorded_grad_norm is None
    assert done.is_same


def test_what_nobody_has_on_record_is_neither_the_same_nor_another(make_trainer):
    done = replay(make_trainer(), 2)
    assert [one.is_same for one in done.steps] == [None, None]
    assert done.is_same


def test_damaged_lines_are_passed_over(make_trainer):
    run = make_trainer()
    run.train()
    path = run.run.path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b'{"step": 4, "train/loss": 3.\n\xff\xfe\n[1]\n{"step": 4, "train/loss": true}\n'
    path.write_bytes(b"".join(lines))
    done = replay(make_trainer(), 5)
    assert [one.is_same for one in done.steps] == [True, True]
    assert done.steps[0].recorded_grad_norm is None  # the loss is that of a checkpoint


def test_a_damaged_checkpoint_is_passed_over_for_an_earlier_one(make_trainer):
    run = make_trainer()
    run.train()
    (run.run.checkpoints / "checkpoint-6" / "model.safetensors").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="checkpoint-6.*; replaying from an earlier one"):
        done = replay(make_trainer(), 8)
    assert done.start.endswith("checkpoint-3")
    assert done.is_same


class Remembering(Scheduler):
    """A rate that follows the evaluations."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.factor = 1.0
        self.start()

    def lr_at(self, step):
        return self.base_lr * self.factor

    def observe(self, metrics):
        self.factor *= 0.5 + metrics["eval/loss"] / 10

    def state(self):
        return {"factor": self.factor}

    def load_state(self, state):
        self.factor = state.get("factor", 1.0)


def test_a_schedule_with_memory_is_told_what_the_run_told_it(make_trainer):
    def make():
        parts = {
            "val_dataset": make_trainer().dataset,
            "scheduler": lambda model: Remembering(AdamW(model.parameters, 1e-2)),
        }
        return make_trainer(validation_frequency=2, parts=parts)

    run = make()
    run.train()
    done = replay(make(), 9)
    assert done.is_same
    assert len({one.learning_rate for one in done.steps}) > 1
    # what it is told is needed for the bits
    path = run.run.path / "metrics.jsonl"
    kept = [line for line in path.read_text().splitlines() if "eval/loss" not in line]
    path.write_text("\n".join(kept) + "\n")
    assert not replay(make(), 9).is_same


@pytest.fixture
def make_falling(make_trainer):
    """Build a run whose rate falls at every second evaluation."""

    def make(**more):
        plateau = {"patience": 1, "min_delta": 9.0, "factor": 0.5}
        parts = {
            "val_dataset": make_trainer().dataset,
            "scheduler": ("reduce_on_plateau", plateau),
        }
        return make_trainer(parts=parts, **{"validation_frequency": 1, **more})

    return make


def test_a_rate_that_falls_on_a_plateau_falls_at_the_same_steps(make_falling):
    make_falling().train()
    done = replay(make_falling(), 9)
    assert len({one.learning_rate for one in done.steps}) > 1
    assert done.is_same
    assert replay(make_falling(), 3).is_same


def test_an_evaluation_that_came_after_its_checkpoint_is_told_first(make_falling):
    run = make_falling(validation_frequency=2, save_every=0)
    step_loss = run.model.step_loss

    def leave(batch, loss, **options):
        if not options.get("gradient", True) and run.current_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step_loss(batch, loss, **options)

    run.model.step_loss = leave
    run.train()
    assert (run.stopped, run.state.evaluation["step"]) == ("SIGTERM", 2)
    make_falling(validation_frequency=2, save_every=0, resume="auto").train()
    done = replay(make_falling(validation_frequency=2, save_every=0), 6)
    assert done.start.endswith("checkpoint-4")
    assert done.is_same


def test_a_batch_that_a_resumed_run_takes_again_is_not_left_out(make_trainer):
    poison = passing_fault()
    run = make_trainer(on_nonfinite="stop", max_nonfinite=1)
    with pytest.raises(NonFiniteError), ops.watching(poison), run.model.observed(poison):
        run.train()
    (file,) = incident_files(run.run.path)
    again = make_trainer(resume="auto", on_nonfinite="stop")
    again.train()
    assert again.skipped_steps == 0
    assert not incident_files(run.run.path)
    assert (file.parent / f"superseded-{file.name}").is_file()
    done = replay(make_trainer(), 2)
    assert [one.position for one in done.steps] == [0, 1]
    assert done.is_same


@pytest.mark.parametrize("finding", [None, {"recurs": None}])
def test_a_file_without_a_finding_accuses_nobody(make_trainer, finding):
    run = make_trainer(on_nonfinite="stop", learning_rate=1e18, max_grad_norm=0.0)
    with pytest.raises(NonFiniteError):
        run.train()
    (file,) = incident_files(run.run.path)
    known = json.loads(file.read_text())
    known["finding"] = finding and {**known["finding"], **finding}
    file.write_text(json.dumps(known))
    done = replay(make_trainer(learning_rate=1e18, max_grad_norm=0.0), file=file)
    assert done.finding.recurs is True
    assert (done.fault_is_same, done.is_same) == (None, True)


def test_numbers_of_hundreds_of_digits_are_passed_over(make_trainer):
    run = make_trainer()
    run.train()
    huge = "9" * 400
    path = run.run.path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = f'{{"step": 4, "train/loss": {huge}}}'
    path.write_text("\n".join(lines) + "\n")
    (run.run.path / "nonfinite-step-3.json").write_text(f'{{"loss": {huge}, "grad_norm": 1}}')
    assert [one.is_same for one in replay(make_trainer(), 5).steps] == [True, True]


# --------------------------------------------------------------------------- statistics


def test_statistics_are_those_of_the_arrays(make_trainer):
    class Keeping(PassObserver):
        def __init__(self):
            self.kept = {}

        def leave(self, place, direction, arrays):
            if direction != "recompute":
                name = "d_stream" if direction == "backward" else "stream"
                if name in arrays:
                    self.kept.setdefault((place, direction, name), []).append(arrays[name].copy())

    trainer, keeping = make_trainer(), Keeping()
    with trainer.model.observed(keeping):
        trainer.session.step.gradients(next(trainer.dataset.batches(4, 42)))
    rows = {
        (r.place, r.direction, r.array): r for r in replay(make_trainer(), 1).steps[0].statistics
    }
    del keeping.kept["final_norm", "forward", "stream"]  # that of the last block
    assert set(keeping.kept) <= set(rows)
    for key, arrays in keeping.kept.items():
        values = np.concatenate([a.ravel() for a in arrays]).astype(np.float64)
        row = rows[key]
        assert row.n == values.size
        assert row.n_non_finite == 0
        assert np.isclose(row.mean, values.mean(), rtol=1e-9, atol=1e-15)
        assert np.isclose(row.std, values.std(), rtol=1e-9)
        assert row.absmax == np.abs(values).max()
        assert row.zeros == np.mean(values == 0)


# --------------------------------------------------------------------------- steps that failed


def failed(make_trainer, **config):
    """Train until the run ends at a step; return the trainer."""
    trainer = make_trainer(on_nonfinite="stop", **config)
    with pytest.raises(NonFiniteError):
        trainer.train()
    return trainer


DIVERGING = {
    "parts": {"optimizer": "sgd", "scheduler": "constant", "sinks": ("jsonl",)},
    "learning_rate": 1e18,
    "max_grad_norm": 0.0,
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_that_was_not_finite_is_found_to_fail_where_it_failed(make_trainer, precision):
    run = failed(make_trainer, precision=precision, **DIVERGING)
    (file,) = incident_files(run.run.path)
    known = json.loads(file.read_text())
    assert known["finding"]["recurs"] is True
    done = replay(make_trainer(precision=precision, **DIVERGING), file=file)
    assert done.finding.as_json() == known["finding"]
    assert done.fault_is_same is True
    assert done.is_same
    assert done.steps[-1].applied is False


def test_what_the_hardware_did_to_the_memory_is_not_found_again(make_trainer):
    """The last checkpoint is good, so a parameter that was hit after it is not."""
    trainer = make_trainer(on_nonfinite="stop")
    step = trainer.session.train_step

    def hit(batch):
        if trainer.current_step == 4:
            trainer.model.parameters["blocks.0.mlp.up.weight"].data[0, 0] = np.nan
        return step(batch)

    trainer.session.train_step = hit
    with pytest.raises(NonFiniteError):
        trainer.train()
    (file,) = incident_files(trainer.run.path)
    done = replay(make_trainer(), file=file)
    assert done.finding.recurs is False
    assert (done.fault_is_same, done.is_same) == (False, False)


def test_a_batch_that_a_passing_fault_used_up_is_left_out(make_trainer):
    poison = passing_fault()
    run = make_trainer()
    with (
        pytest.warns(RuntimeWarning, match="fault of the hardware"),
        ops.watching(poison),
        run.model.observed(poison),
    ):
        run.train()
    assert (run.skipped_steps, run.current_step) == (1, 9)
    done = replay(make_trainer(), 2)
    assert done.is_same
    assert [one.position for one in done.steps] == [1, 2]
    (file,) = incident_files(run.run.path)
    again = replay(make_trainer(), file=file)
    assert again.finding.recurs is False
    assert again.is_same  # the run's second pass was as this one


def test_steps_that_were_left_out_are_left_out_again(make_trainer):
    """What recurs is refused by the replay, too, and counts as it did."""
    config = {"max_nonfinite": 9, "save_every": 0}

    def train(trainer, act):
        step = trainer.session.train_step

        def spoiled(batch):
            if trainer.state.position != 2:
                return step(batch)
            tile = trainer.loss_fn.tile

            def nan(*arguments, **options):
                return tile(*arguments, **options) * np.nan

            trainer.loss_fn.tile = nan
            try:
                return step(batch)
            finally:
                del trainer.loss_fn.tile

        trainer.session.train_step = spoiled
        with pytest.warns(RuntimeWarning, match=r"step 3: .*cross_entropy\.tile made losses_N"):
            return act(trainer)

    run = make_trainer(**config)
    train(run, lambda trainer: trainer.train())
    done = train(make_trainer(**config), lambda trainer: replay(trainer, 5))
    assert [(one.step, one.applied) for one in done.steps] == [
        (1, True), (2, True), (3, False), (3, True), (4, True), (5, True),
    ]  # fmt: skip
    assert done.is_same


def test_arrays_of_ones_own_are_met_again_from_the_state_before(make_trainer):
    x = np.arange(64).reshape(4, 16) % 17
    run = make_trainer(on_nonfinite="stop", **DIVERGING)
    run.run.make()
    run.train_step(x, x)
    saved = run.save_checkpoint(0, 1)
    with pytest.raises(NonFiniteError, match=r"^step 2: "):
        run.train_step(x, x)
    (file,) = incident_files(run.run.path)
    assert replay(make_trainer(**DIVERGING), file=file).is_same
    shutil.rmtree(saved)
    with pytest.raises(CheckpointError) as caught:
        replay(make_trainer(**DIVERGING), file=file)
    assert str(caught.value) == (
        "replay: step 2 was made of arrays given to train_step, and so may be those before: "
        "expected a checkpoint of step 1, got one of 0; load the state of that step yourself and "
        "call train_step"
    )


def test_a_spike_is_made_again(make_trainer):
    spiky = {"spike_window": 10, "spike_threshold": 1e-9, "spike_action": "skip", "max_steps": 14}
    run = make_trainer(**spiky)
    with contextlib.suppress(SpikeError), pytest.warns(RuntimeWarning, match="deviations above"):
        run.train()
    file = incident_files(run.run.path)[0]
    done = replay(make_trainer(**spiky), file=file)
    assert done.finding is None
    assert done.is_same
    assert done.steps[-1].loss == read_incident(file).loss


# --------------------------------------------------------------------------- wrong uses


def test_one_of_step_and_file(make_trainer):
    with pytest.raises(ConfigError) as caught:
        replay(make_trainer())
    assert str(caught.value) == "replay: expected one of step and file, got both or neither"


@pytest.mark.parametrize("step", [0, 10])
def test_a_step_that_the_run_does_not_have(make_trainer, step):
    with pytest.raises(ConfigError) as caught:
        replay(make_trainer(), step)
    assert str(caught.value) == (
        f"replay: expected a step from 1 to 9, the last of the run, got {step}"
    )


def test_a_trainer_that_is_past_the_step(make_trainer):
    trainer = make_trainer(save_every=0)
    trainer.train()
    shutil.rmtree(trainer.run.checkpoints)
    with pytest.raises(ConfigError) as caught:
        replay(trainer, 4)
    assert str(caught.value) == (
        "replay: expected a trainer before step 4, got one at step 9; build it anew, or choose a "
        "later step if the run began there"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "other"}, 'expected kind "nonfinite" or "spike"'),
        ({"step": True}, "expected step, an integer >= 0"),
        ({"position": -1}, "expected position, an integer >= 0"),
        ({"loss": "big"}, "expected loss, a number"),
        ({"finding": {"recurs": False}}, "expected loss, a number"),
        ({"arrays": 3}, "expected arrays x and y of one shape (B, T)"),
        ({"arrays": {"x": [[1]], "y": [1]}}, "expected arrays x and y of one shape (B, T)"),
        ({"arrays": {"x": [["a"]], "y": [["b"]]}}, "expected arrays of integers"),
    ],
)
def test_a_file_that_is_none_of_a_step(tmp_path, change, reason):
    good = {"kind": "nonfinite", "step": 5, "position": 4, "loss": "NaN", "grad_norm": 1.0}
    path = tmp_path / "nonfinite-step-5.json"
    path.write_text(json.dumps(good))
    assert read_incident(path).step == 5
    path.write_text(json.dumps({**good, **change}))
    with pytest.raises(DataError) as caught:
        read_incident(path)
    assert str(caught.value) == (
        f"{path}: not the file of a step that was not applied ({reason}); give a "
        "nonfinite-step-N.json or spike-step-N.json of the run, or --step"
    )


@pytest.mark.parametrize("position", [5, 2**62])
def test_a_file_with_a_batch_that_its_step_has_not_is_refused(make_trainer, position):
    poison = passing_fault()
    run = make_trainer(on_nonfinite="stop", max_nonfinite=1)
    with pytest.raises(NonFiniteError), ops.watching(poison), run.model.observed(poison):
        run.train()
    (file,) = incident_files(run.run.path)
    known = json.loads(file.read_text())
    step, known["position"] = known["step"], position
    file.write_text(json.dumps(known))
    with pytest.raises(DataError) as caught:
        replay(make_trainer(), file=file)
    assert str(caught.value).startswith(
        f"replay: expected step {step} to have batch {position}, as its file says, got one before "
    )


def test_a_file_nested_too_deep_is_left_alone_by_a_run_that_goes_on(tmp_path):
    path = tmp_path / "nonfinite-step-3.json"
    path.write_text('{"position": ' + "[" * 3000 + "]" * 3000 + "}")
    set_aside(tmp_path, 0)
    path.write_text('{"position": "3"}')
    set_aside(tmp_path, 0)
    assert path.is_file()
