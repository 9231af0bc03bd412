"""What must not be applied is not applied, not saved, and named: non-finite steps and spikes."""

from __future__ import annotations

import json
import math
import shlex

import numpy as np
import pytest

from tisslm import TokenDataset, checkpoint
from tisslm.contracts import Scheduler, Sink
from tisslm.errors import NonFiniteError, SpikeError
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.optim.optimizers import SGD
from tisslm.training.refusals.windows import batch_windows

X = np.arange(48).reshape(3, 16) % 17


class Faulty(CrossEntropy):
    """Cross-entropy that adds to the loss of the steps that a table names, counted from 1.

    The same however often a step's passes are run.
    """

    def __init__(self, added):
        super().__init__()
        self.added, self.trainer, self.first = added, None, None

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        if gradient:
            position = self.trainer.state.position
            self.first = position if self.first is None else self.first
            losses_N[0] += self.added.get(1 + position - self.first, 0.0)
        return losses_N


class Lines(Sink):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def open(self, run):
        pass

    def write(self, step, metrics):
        self.lines.append((step, dict(metrics)))


@pytest.fixture
def faulty(make_trainer):
    def make(added, *, parts=None, **config):
        trainer = make_trainer(parts={"loss_fn": Faulty(added), **(parts or {})}, **config)
        trainer.loss_fn.trainer = trainer
        return trainer

    return make


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_is_left_out_and_its_windows_are_used_up(
    faulty, make_trainer, same_bits, value
):
    sink = Lines()
    trainer = faulty({3: value}, parts={"sinks": [sink]})
    with pytest.warns(
        RuntimeWarning, match=rf"^step 3: the loss is {value} and the gradient norm "
    ):
        trainer.train()
    assert (trainer.current_step, trainer.skipped_steps) == (6, 1)
    assert [step for step, _ in sink.lines] == [1, 2, 3, 4, 5, 6]
    counted = [metrics.get("train/skipped_steps") for _, metrics in sink.lines]
    assert counted == [0, 0, 1, 1, 1, 1]
    plain = make_trainer(folder="plain")
    batches = list(zip(range(7), plain.dataset.batches(3, seed=42), strict=False))
    for number, (x, y) in batches:
        if number != 2:
            plain.train_step(x, y)
    assert same_bits(trainer, plain)


def test_a_gradient_that_is_not_finite_is_left_out(make_trainer):
    trainer = make_trainer()
    gradient = trainer.model.parameters.grad
    step_loss = trainer.model.step_loss

    def poisoned(*arguments, **options):
        loss = step_loss(*arguments, **options)
        gradient[7] = np.inf
        return loss

    trainer.model.step_loss = poisoned
    before = trainer.model.parameters.data.copy()
    with pytest.warns(
        RuntimeWarning, match=r"^step 1: the loss is 2\.\d+ and the gradient norm inf;"
    ):
        trainer.train_step(X, X)
    assert np.array_equal(before, trainer.model.parameters.data)


def test_the_third_in_a_row_ends_the_run(faulty):
    trainer = faulty({3: math.nan, 5: math.nan, 6: math.nan, 7: math.nan}, save_every=1)
    with (
        pytest.raises(
            NonFiniteError, match=r"^step 4: .*; the 3 steps in a row that were not appl"
        ),
        pytest.warns(RuntimeWarning) as warned,
    ):
        trainer.train()
    assert [str(w.message).rpartition("; not applied")[2].partition(":")[0] for w in warned] == [
        ", 1 in a row (training.max_nonfinite = 3)",
        ", 1 in a row (training.max_nonfinite = 3)",
        ", 2 in a row (training.max_nonfinite = 3)",
    ]
    assert (trainer.current_step, trainer.skipped_steps) == (3, 3)
    assert json.loads((trainer.run.path / "summary.json").read_text())["status"] == "failed"
    saved = checkpoint.list_checkpoints(trainer.run.checkpoints)
    assert [path.name for path in saved] == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    names = sorted(path.name for path in trainer.run.path.glob("nonfinite*"))
    assert names == [
        "nonfinite-step-3.json",
        "nonfinite-step-4-2.json",
        "nonfinite-step-4-3.json",
        "nonfinite-step-4.json",
    ]


def test_the_row_goes_on_after_a_resume(faulty):
    trainer = faulty({3: math.nan, 4: math.nan})
    for _ in range(2):
        trainer.train_step(X, X)
    for number in (1, 2):
        with pytest.warns(RuntimeWarning, match=f"not applied, {number} in a row"):
            trainer.train_step(X, X)
    path = trainer.save_checkpoint(trainer.current_epoch, trainer.current_step)
    again = faulty({1: math.nan}, folder="again", resume=str(path))
    with pytest.raises(NonFiniteError, match=r"^step 3: .*; the 3 steps in a row"):
        again.train_step(X, X)


def test_stop_ends_the_run_at_once_and_says_all_that_is_known(faulty):
    trainer = faulty({5: math.nan}, on_nonfinite="stop", save_every=2)
    path = trainer.run.path
    with pytest.raises(NonFiniteError) as caught:
        trainer.train()
    windows = batch_windows(trainer.dataset, 3, 42, 4)
    numbers, norm = ", ".join(map(str, windows)), trainer.compute_grad_norm()
    assert str(caught.value) == (
        f"step 5: the loss is nan and the gradient norm {norm:.6g}; first in head, "
        "forward: Faulty.tile made losses_N[0] NaN (micro-batch 0, row 0, window "
        f"{windows[0]}, token 0); the parameters are those of step 4. It was made of windows "
        f"{numbers} of the dataset (batch 4); more in {path / 'nonfinite-step-5.json'}. "
        "Lower training.learning_rate, lengthen the warm-up, or look at these samples. "
        "To make it again: trainer.load_checkpoint("
        f"'{path / 'checkpoints' / 'checkpoint-4'}'); batches = trainer.dataset.batches(3, 42, "
        "start=trainer.state.position); losses = [trainer.train_step(*next(batches)) for _ in "
        "range(trainer.state.position, 5)]"
    )
    known = json.loads((path / "nonfinite-step-5.json").read_text())
    assert known == {
        "kind": "nonfinite",
        "step": 5,
        "position": 4,
        "loss": "NaN",
        "grad_norm": norm,
        "windows": windows,
        "rows": 3,
        "seed": 42,
        "rows_per_update": 3,
        "checkpoint": "checkpoints/checkpoint-4",
        "command": None,
        "file": "nonfinite-step-5.json",
        "python": known["python"],
        "arrays": None,
        "finding": known["finding"],
    }
    assert known["finding"]["recurs"] is True
    assert known["finding"]["fault"]["op"] == "Faulty.tile"


@pytest.mark.parametrize("save_every", [0, 2, 3, 4], ids="saved every {}".format)
def test_the_lines_of_python_make_the_same_step_again(faulty, save_every):
    """Also where the last checkpoint is some steps before, or there is none."""
    failed = faulty({5: math.nan}, on_nonfinite="stop", save_every=save_every)
    with pytest.raises(NonFiniteError):
        failed.train()
    known = json.loads((failed.run.path / "nonfinite-step-5.json").read_text())
    between = 4 % save_every if save_every else 4
    trainer = faulty({1 + between: math.nan}, folder="again", on_nonfinite="stop")
    with pytest.raises(NonFiniteError, match=r"^step 5: .*look at these samples"):
        exec("; ".join(known["python"]), {"trainer": trainer})
    assert np.array_equal(trainer.model.parameters.grad, failed.model.parameters.grad)
    assert trainer.compute_grad_norm() == failed.compute_grad_norm()


def test_arrays_of_ones_own_have_rows_and_no_windows(faulty):
    trainer = faulty({1: math.nan}, on_nonfinite="stop")
    with pytest.raises(NonFiniteError, match="rows 0 to 2 of the arrays given to train_step"):
        trainer.train_step(X, X)
    assert not trainer.run.path.exists()


def test_a_loop_over_the_dataset_knows_its_windows(faulty):
    trainer = faulty({16: math.nan}, on_nonfinite="stop", epochs=2, max_steps=None)
    for x, y in trainer.dataset:
        trainer.train_step(x, y)
    x, y = next(iter(trainer.dataset))
    with pytest.raises(NonFiniteError, match=r"^step 16: .*windows .* of the dataset \(batch 15\)"):
        trainer.train_step(x, y)


def test_a_full_disk_hides_nothing(faulty, monkeypatch):
    trainer = faulty({2: math.nan}, on_nonfinite="stop")
    trainer.run.make()
    (trainer.run.path / "nonfinite-step-2.json").mkdir()  # so that it cannot be written
    with pytest.raises(NonFiniteError, match=r"\(batch 1\)\. Lower") as caught:
        trainer.train()
    assert "more in" not in str(caught.value)


def test_batches_past_the_first_epoch_have_the_windows_that_were_given(tokens):
    dataset = TokenDataset(tokens, 16, vocab_size=17)
    batches = dataset.batches(5, seed=9)
    for position in range(20):
        x, _ = next(batches)
        rows = [dataset.window(i).x for i in batch_windows(dataset, 5, 9, position)]
        assert np.array_equal(x, rows)


# --------------------------------------------------------------------------- spikes

SPIKES = {"spike_window": 10, "spike_threshold": 20.0, "max_steps": 16}


def test_a_spike_is_a_warning(faulty, make_trainer, same_bits):
    trainer = faulty({13: 5.0}, **SPIKES)
    with pytest.warns(RuntimeWarning, match=r"^step 13: the loss is [78]\.\d+, .* of the last 10$"):
        trainer.train()
    assert trainer.skipped_steps == 0
    plain = make_trainer(folder="plain", max_steps=16)
    plain.train()
    assert np.array_equal(trainer.model.parameters.data, plain.model.parameters.data)


def test_a_spike_is_skipped(faulty):
    trainer = faulty({13: 5.0}, spike_action="skip", **SPIKES)
    with pytest.warns(
        RuntimeWarning, match=r"^step 13: .* of the last 10; not applied, 1 in a row"
    ):
        trainer.train()
    assert (trainer.current_step, trainer.skipped_steps) == (16, 1)
    assert max(trainer.loss_history) < 4
    known = json.loads((trainer.run.path / "spike-step-13.json").read_text())
    assert (known["kind"], known["position"]) == ("spike", 12)
    assert known["windows"] == batch_windows(trainer.dataset, 3, 42, 12)


def test_a_spike_ends_the_run(faulty):
    trainer = faulty({13: 5.0}, spike_action="stop", **SPIKES)
    with pytest.raises(
        SpikeError, match=r'^step 13: .*"warn" goes on over spikes. To make it again'
    ):
        trainer.train()
    assert trainer.current_step == 12


def test_spikes_in_a_row_end_the_run_and_are_not_skipped_for_ever(faulty):
    trainer = faulty(dict.fromkeys(range(13, 90), 5.0), spike_action="skip", **SPIKES)
    with pytest.raises(SpikeError, match="the 3 steps in a row"), pytest.warns(RuntimeWarning):
        trainer.train()
    assert (trainer.current_step, trainer.skipped_steps) == (12, 2)


def test_nothing_is_a_spike_where_they_are_off_or_the_window_is_not_full(faulty):
    faulty({13: 5.0}, spike_action="off", **SPIKES).train()
    faulty({8: 5.0}, folder="early", **SPIKES).train()


def test_a_resumed_run_judges_as_the_uninterrupted_one(faulty, same_bits):
    config = {**SPIKES, "spike_action": "skip", "max_steps": 20}
    whole = faulty({13: 5.0, 17: math.nan}, folder="whole", save_every=14, **config)
    with pytest.warns(RuntimeWarning):
        whole.train()
    again = faulty(
        {2: math.nan}, folder="again", resume=str(whole.run.checkpoints / "checkpoint-14"), **config
    )
    with pytest.warns(RuntimeWarning, match="^step 16: "):
        again.train()
    assert same_bits(whole, again)
    assert again.skipped_steps == whole.skipped_steps == 2


# --------------------------------------------------------------------------- what is saved


def test_a_parameter_that_is_not_finite_is_never_saved(make_trainer):
    trainer = make_trainer(keep_checkpoints=1)
    trainer.train()
    trainer.model.parameters["blocks.0.mlp.up.bias"].data[3] = np.nan
    with pytest.raises(NonFiniteError) as caught:
        trainer.save_checkpoint(0, 7)
    assert str(caught.value) == (
        f"{trainer.run.checkpoints / 'checkpoint-7'}: parameter blocks.0.mlp.up.bias is not finite "
        "any more, so nothing was saved, and the checkpoints before are as they were. Go on from "
        "the last of them with a lower training.learning_rate or a smaller training.max_grad_norm"
    )
    assert [path.name for path in trainer.run.checkpoints.iterdir()] == ["checkpoint-6"]


def test_a_slot_that_is_not_finite_is_never_saved(make_trainer):
    trainer = make_trainer()
    trainer.train()
    name = next(name for name in trainer.optimizer.state() if name.endswith("/v"))
    trainer.optimizer.state()[name].flat[0] = np.inf
    with pytest.raises(NonFiniteError, match=f"checkpoint-7: the optimizer's {name} is not finite"):
        trainer.save_checkpoint(0, 7)


def test_an_update_that_overflows_ends_the_run_before_it_is_saved(make_trainer):
    parts = {"optimizer": "sgd", "scheduler": "constant"}
    trainer = make_trainer(
        parts=parts, learning_rate=1e39, max_grad_norm=0.0, save_every=1, dropout=0.0
    )
    with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match="checkpoint-1: parameter"):
        trainer.train()
    assert not checkpoint.list_checkpoints(trainer.run.checkpoints)


# --------------------------------------------------------------------------- validation


class Told(Scheduler):
    """Keeps what it is told."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.told = []
        self.start()

    def lr_at(self, step):
        return self.base_lr

    def observe(self, metrics):
        self.told.append(metrics["eval/loss"])


def test_a_validation_loss_that_is_not_finite_is_reported_and_told_to_no_schedule(
    make_trainer, make_model, tokens
):
    sink = Lines()
    held_out = TokenDataset(tokens[:100], 16, vocab_size=17)
    model = make_model()
    scheduler = Told(SGD(model.parameters, 1e-2))
    parts = {"model": model, "optimizer": scheduler.optimizer, "scheduler": scheduler}
    trainer = make_trainer(
        parts={**parts, "sinks": [sink], "val_dataset": held_out},
        validation_frequency=2,
        max_steps=4,
    )
    validation, tile = trainer.validation_loss, trainer.validation_loss.tile

    def poisoned(*arguments, **options):
        losses_N = tile(*arguments, **options)
        return losses_N * np.nan if trainer.current_step == 2 else losses_N

    validation.tile = poisoned
    with pytest.warns(RuntimeWarning, match=r"^step 2: the validation loss is nan"):
        trainer.train()
    found = [metrics["eval/loss"] for _, metrics in sink.lines if "eval/loss" in metrics]
    assert math.isnan(found[0])
    assert trainer.scheduler.told == [found[1]]
    assert math.isnan(next(m["eval/perplexity"] for _, m in sink.lines if "eval/loss" in m))


# --------------------------------------------------------------------------- the command line


@pytest.mark.parametrize("where", ["absolute", "../aside"])
def test_checkpoints_outside_of_the_run_directory_are_named_from_it(faulty, tmp_path, where):
    chosen = str(tmp_path / "aside") if where == "absolute" else where
    trainer = faulty({2: math.nan}, on_nonfinite="stop", save_every=1, checkpoint_dir=chosen)
    with pytest.raises(NonFiniteError):
        trainer.train()
    known = json.loads((trainer.run.path / "nonfinite-step-2.json").read_text())
    assert known["checkpoint"] == "../aside/checkpoint-1"
    assert (trainer.run.path / known["checkpoint"]).is_dir()


def test_the_command_that_makes_a_step_again_is_a_command(faulty):
    trainer = faulty({2: math.nan}, on_nonfinite="stop", save_every=1)
    trainer.session.settings = {"data": {"path": "text.txt"}, **trainer.settings}
    with pytest.raises(NonFiniteError, match="To make it again: tisslm replay ") as caught:
        trainer.train()
    command = shlex.split(str(caught.value).partition("To make it again: ")[2])
    run = trainer.run.path
    assert command == ["tisslm", "replay", str(run), "--file", str(run / "nonfinite-step-2.json")]


def test_without_the_file_the_command_names_the_step(faulty):
    trainer = faulty({2: math.nan}, on_nonfinite="stop")
    trainer.session.settings = {"data": {"path": "text.txt"}, **trainer.settings}
    trainer.run.make()
    (trainer.run.path / "nonfinite-step-2.json").mkdir()
    with pytest.raises(NonFiniteError, match=r"tisslm replay \S+ --step 2$"):
        trainer.train()
