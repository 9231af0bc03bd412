"""What a run leaves behind, and what the Trainer refuses."""

from __future__ import annotations

import json
import math
import tomllib

import numpy as np
import pytest

from tisslm import TokenDataset, Trainer, TrainingConfig
from tisslm.contracts import Batch, Monitor, Optimizer, Sink, target_weights
from tisslm.errors import ConfigError, DataError, NonFiniteError, ShapeError, SinkError
from tisslm.optim.optimizers.sgd import SGD
from tisslm.optim.schedulers.constant import Constant
from tisslm.tokenizers.byte import ByteTokenizer


class Memory(Sink):
    """Keeps what it is told."""

    def __init__(self, fail_at: int = -1) -> None:
        self.lines: list[tuple[int, dict[str, object]]] = []
        self.fail_at = fail_at
        self.closed = 0

    def open(self, run):
        self.run = run

    def write(self, step, metrics):
        if step == self.fail_at:
            raise OSError("the disk is gone")
        self.lines.append((step, dict(metrics)))

    def close(self):
        self.closed += 1


def test_a_run_leaves_its_configuration_summary_and_checkpoints(make_trainer, tokens):
    held_out = TokenDataset(tokens[:100], 16, vocab_size=17)
    trainer = make_trainer(
        save_every=2, keep_checkpoints=2, max_steps=7, parts={"val_dataset": held_out}
    )
    trainer.train()
    path = trainer.run.path
    assert sorted(p.name for p in trainer.run.checkpoints.iterdir()) == [
        "checkpoint-6",
        "checkpoint-7",
    ]
    assert sorted(p.name for p in (trainer.run.checkpoints / "checkpoint-7").iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "trainer.safetensors",
        "trainer_state.json",
    ]
    summary = json.loads((path / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["steps"] == 7
    assert summary["train_loss"] == trainer.loss_history[-1]
    assert summary["eval_loss"] == trainer.validate(held_out)
    assert summary["parameters"] == trainer.model.parameters.count
    assert summary["tokens_per_second"] > 0
    config = tomllib.loads((path / "config.resolved.toml").read_text())
    assert config["training"]["max_steps"] == 7
    assert config["model"]["n_embd"] == 32


def test_the_loss_falls(make_trainer, tokens):
    text = np.tile(np.arange(17, dtype=np.uint16), 40)
    trainer = make_trainer(
        dropout=0.0, max_steps=60, parts={"dataset": TokenDataset(text, 16, vocab_size=17)}
    )
    trainer.train()
    assert trainer.loss_history[0] == pytest.approx(math.log(17), rel=0.1)
    assert trainer.loss_history[-1] < 0.2


def test_sinks_get_every_metric_at_the_logging_steps(make_trainer, tokens):
    sink = Memory()
    held_out = TokenDataset(tokens[:100], 16, vocab_size=17)
    trainer = make_trainer(
        logging_steps=2,
        max_steps=5,
        validation_frequency=4,
        log_gradients=True,
        monitor_steps=1,
        parts={"sinks": [sink], "val_dataset": held_out},
    )
    trainer.train()
    train = [step for step, metrics in sink.lines if "train/loss" in metrics]
    assert train == [2, 4, 5]
    assert [step for step, metrics in sink.lines if "eval/loss" in metrics] == [4, 5]
    metrics = dict(sink.lines)[2]
    assert {
        "train/perplexity",
        "train/learning_rate",
        "train/grad_norm",
        "train/tokens_per_second",
        "train/step_time_ms",
        "train/num_input_tokens_seen",
        "memory/rss_gib",
        "grad_norm/embedding.token.weight",
    } <= set(metrics)
    assert metrics["train/loss"] == trainer.loss_history[1]
    assert metrics["memory/peak_rss_gib"] >= metrics["memory/rss_gib"] > 0
    assert sink.run.parameters == trainer.model.parameters.count
    assert sink.closed == 1


def test_a_sink_that_raises_is_switched_off_and_named(make_trainer):
    bad, good = Memory(fail_at=3), Memory()
    trainer = make_trainer(parts={"sinks": [bad, good]})
    with pytest.warns(RuntimeWarning, match=r"sink Memory is switched off: OSError: the disk"):
        trainer.train()
    assert [step for step, _ in bad.lines] == [1, 2]
    assert [step for step, _ in good.lines] == [1, 2, 3, 4, 5, 6]


def test_a_non_finite_gradient_is_never_applied(make_trainer):
    trainer = make_trainer(parts={"optimizer": "sgd"}, on_nonfinite="stop")
    x = np.zeros((3, 16), np.int64)
    trainer.train_step(x, x)
    trainer.model.parameters["blocks.1.mlp.up.weight"].data[0, 0] = np.inf
    before = trainer.model.parameters.data.copy()
    with pytest.raises(NonFiniteError, match=r"^step 2: the loss is nan .* a lower training"):
        trainer.train_step(x, x)
    assert np.array_equal(before, trainer.model.parameters.data)
    assert trainer.current_step == 1
    # the failed step leaves no scale behind for the next one
    trainer.model.parameters["blocks.1.mlp.up.weight"].data[0, 0] = 0.0
    before = trainer.model.parameters.data.copy()
    trainer.train_step(x, x)
    assert not np.array_equal(before, trainer.model.parameters.data)


def test_a_failed_run_says_so_in_its_summary(make_trainer):
    trainer = make_trainer(on_nonfinite="stop")
    trainer.model.parameters["final_norm.weight"].data[0] = np.nan
    with pytest.raises(NonFiniteError):
        trainer.train()
    summary = json.loads((trainer.run.path / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert not list(trainer.run.checkpoints.iterdir())


def test_clipping_limits_the_norm_of_what_is_applied(make_trainer):
    x = np.arange(48).reshape(3, 16) % 17
    steps = {}
    for limit in (0.0, 1e-3):
        trainer = make_trainer(
            dropout=0.0, max_grad_norm=limit, parts={"optimizer": "sgd", "scheduler": "constant"}
        )
        before = trainer.model.parameters.data.copy()
        trainer.train_step(x, x)
        steps[limit] = float(np.linalg.norm(trainer.model.parameters.data - before)) / 1e-2
        norm = trainer.compute_grad_norm()
    assert steps[0.0] == pytest.approx(norm, rel=1e-4)
    assert steps[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_epochs_count_the_windows(make_trainer):
    trainer = make_trainer(max_steps=None, epochs=2, batch_size=10)
    assert trainer.max_steps == 10  # 43 windows, 5 batches an epoch
    trainer.train()
    assert trainer.current_epoch == 2


def test_validation_is_cross_entropy_whatever_the_training_loss(make_trainer, make_model, tokens):
    dataset = TokenDataset(tokens, 16, vocab_size=17)
    losses = {
        make_trainer(dropout=0.0, parts={"loss_fn": loss}).validate(dataset)
        for loss in ("cross_entropy", "focal", ("label_smoothing", {"smoothing": 0.3}))
    }
    assert len(losses) == 1


class Curious(Monitor):
    """Tries to change what it sees."""

    wants = frozenset({"gradients"})

    def observe(self, site, array):
        array[...] = 0.0

    def metrics(self):
        return {}


def test_a_monitor_cannot_write(make_trainer):
    trainer, plain = make_trainer(parts={"monitors": [Curious()]}), make_trainer(folder="plain")
    with pytest.warns(RuntimeWarning, match="monitor Curious is switched off: ValueError: .*read-"):
        trainer.train()
    plain.train()
    assert np.array_equal(trainer.model.parameters.data, plain.model.parameters.data)


class Greedy(Curious):
    """Wants what is not shown."""

    wants = frozenset({"thoughts", "weights"})


def test_a_monitor_that_wants_more_is_refused(make_trainer):
    with pytest.raises(ConfigError, match="monitor Greedy wants thoughts, which is not avail"):
        make_trainer(parts={"monitors": [Greedy()]})


class Unscaled(Optimizer):
    """Plain gradient descent that leaves clipping to the contract."""

    def update(self, grad_scale):
        self.parameters.data -= self.get_lr() * self.parameters.grad


def test_monitors_see_gradients_before_clipping(make_trainer, make_model):
    sink = Memory()
    model = make_model(dropout=0.1)
    optimizer = Unscaled(model.parameters, 1e-2)
    parts = {"model": model, "optimizer": optimizer, "sinks": [sink], "scheduler": "constant"}
    trainer = make_trainer(max_steps=1, max_grad_norm=1e-3, log_gradients=True, parts=parts)
    trainer.train()
    _, metrics = sink.lines[0]
    norms = [v for k, v in metrics.items() if k.startswith("grad_norm/")]
    assert math.hypot(*norms) == pytest.approx(metrics["train/grad_norm"], rel=1e-5)


def test_parts_of_another_model_are_refused(make_trainer, make_model):
    optimizer = SGD(make_model().parameters, 0.1)
    with pytest.raises(ConfigError, match="optimizer: it was made for the parameters of another"):
        make_trainer(parts={"optimizer": optimizer, "scheduler": Constant(optimizer)})
    with pytest.raises(ConfigError, match="scheduler: it was made for another optimizer"):
        make_trainer(parts={"scheduler": Constant(optimizer)})


@pytest.mark.parametrize("name", ["optimizer", "loss_fn", "dataset", "max_steps", "state"])
def test_a_part_of_a_composed_run_cannot_be_exchanged(make_trainer, name):
    trainer = make_trainer()
    with pytest.raises(AttributeError, match=rf"^trainer\.{name}: a run is made of what its "):
        setattr(trainer, name, getattr(trainer, name))


def test_a_second_clip_replaces_the_first_and_zero_grad_forgets_it(make_trainer):
    trainer = make_trainer(dropout=0.0, parts={"optimizer": "sgd", "scheduler": "constant"})
    x = np.arange(48).reshape(3, 16) % 17
    trainer.model.step_loss(Batch(x, x, target_weights(x, np.float64)), trainer.loss_fn)
    before = trainer.model.parameters.data.copy()
    trainer.clip_gradients(1e-3)
    trainer.clip_gradients(1e-3)
    trainer.optimizer.step()
    moved = float(np.linalg.norm(trainer.model.parameters.data - before)) / 1e-2
    assert moved == pytest.approx(1e-3, rel=1e-3)
    trainer.clip_gradients(1e-9)
    trainer.zero_gradients()
    assert trainer.optimizer._pending == (1.0, None)


def test_a_tokenizer_without_a_registered_name_is_a_warning(make_trainer):
    class Own(ByteTokenizer):
        """Not registered."""

    trainer = make_trainer(parts={"tokenizer": Own()})
    with pytest.warns(RuntimeWarning, match="without its tokenizer: Own has no registered name"):
        trainer.train()


def test_two_runs_of_one_second_get_two_directories(make_trainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [make_trainer(output_dir="", max_steps=1) for _ in range(3)]
    for trainer in runs:
        trainer.train()
    assert len({trainer.run.path for trainer in runs}) == 3


def test_wrong_use_is_explained(make_trainer, make_model, tokens):
    small = TokenDataset(tokens, 16, vocab_size=18)
    with pytest.raises(ConfigError, match="dataset: its tokenizer has 18 ids, the model a vocab"):
        make_trainer(parts={"dataset": small})
    long = TokenDataset(tokens, 32, vocab_size=17)
    with pytest.raises(ConfigError, match="its windows have 32 tokens, the model takes at most 16"):
        make_trainer(parts={"dataset": long})
    with pytest.raises(ConfigError, match=r"trainer.train: no dataset was given"):
        Trainer(make_model(), config=TrainingConfig(max_steps=1), sinks=()).train()
    trainer = make_trainer()
    x = np.zeros((3, 16), np.int64)
    with pytest.raises(ShapeError, match=r"expected x and y of one shape \(B, T\)"):
        trainer.train_step(x, x[:2])
    with pytest.raises(DataError, match="every target is -100"):
        trainer.train_step(x, x - 100)
    with pytest.raises(DataError, match="expected ids from 0 to 16, got 17 at row 1, position 2"):
        trainer.train_step(np.where(np.arange(48).reshape(3, 16) == 18, 17, x), x)


def test_a_directory_that_cannot_be_written(make_trainer, tmp_path):
    (tmp_path / "file").write_text("here before")
    trainer = make_trainer(output_dir=str(tmp_path / "file" / "run"))
    with pytest.raises(ConfigError, match=r"training.output_dir: .* cannot be written"):
        trainer.train()
    assert (tmp_path / "file").read_text() == "here before"


class Breaking(Sink):
    """Takes two steps."""

    def open(self, run):
        pass

    def write(self, step, metrics):
        if step == 3:
            raise OSError("no room")


def test_a_sink_may_end_the_run_which_is_saved_first(make_trainer):
    trainer = make_trainer(max_steps=6, on_sink_error="fail", parts={"sinks": [Breaking()]})
    with pytest.raises(SinkError, match=r"^sink Breaking: OSError: no room. The run ends, because"):
        trainer.train()
    assert trainer.current_step == 3
    assert (trainer.run.checkpoints / "checkpoint-3").is_dir()


def test_monitors_look_every_so_many_steps_and_at_the_last(make_trainer):
    sink = Memory()
    trainer = make_trainer(
        max_steps=5,
        logging_steps=3,
        monitor_steps=2,
        log_gradients=True,
        parts={"sinks": [sink]},
    )
    trainer.train()
    seen = {step for step, row in sink.lines if any(n.startswith("grad_norm/") for n in row)}
    logged = {step for step, row in sink.lines if "train/loss" in row}
    assert seen == {2, 4, 5}
    assert logged == {3, 5}
