"""A resumed run equals the uninterrupted one, and says so when it cannot."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from checkpoints import reseal
from safetensors.numpy import load_file, save_file

from tisslm import TokenDataset, checkpoint, ops
from tisslm.errors import CheckpointError, ConfigError
from tisslm.system import durable as disk
from tisslm.system.tensor_files import TensorFile
from tisslm.tokenizers.char import CharTokenizer

OPTIMIZERS = [
    "adam",
    "adamw",
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("rmsprop", {"momentum": 0.9, "centered": True}),
]
SCHEDULERS = ["constant", ("step", {"step_size": 3}), "exponential", "cosine", "warmup_linear"]


#: The name outside of `final_norm.bias`.
BIAS = "transformer.ln_f.bias"


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_resumed_equals_uninterrupted_for_every_optimizer(make_trainer, same_bits, optimizer):
    whole = make_trainer(folder="whole", max_steps=10, parts={"optimizer": optimizer})
    whole.train()
    half = make_trainer(folder="half", max_steps=10, save_every=4, parts={"optimizer": optimizer})
    half.train()
    resumed = make_trainer(
        folder="resumed",
        max_steps=10,
        parts={"optimizer": optimizer},
        resume=str(half.run.checkpoints / "checkpoint-4"),
    )
    assert resumed.current_step == 4
    resumed.train()
    assert same_bits(whole, resumed)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=str)
def test_resumed_equals_uninterrupted_for_every_scheduler(make_trainer, same_bits, scheduler):
    parts = {"scheduler": scheduler}
    whole = make_trainer(folder="whole", parts=parts, save_every=3)
    whole.train()
    resumed = make_trainer(
        folder="resumed", parts=parts, resume_from=str(whole.run.checkpoints / "checkpoint-3")
    )
    resumed.train()
    assert same_bits(whole, resumed)


def test_resume_crosses_epochs_and_accumulation_windows(make_trainer, same_bits):
    # 43 windows: 7 updates an epoch, the last of one row
    config = {"max_steps": 17, "gradient_accumulation_steps": 2}
    whole = make_trainer(folder="whole", **config)
    whole.train()
    part = make_trainer(folder="part", save_every=5, keep_checkpoints=0, **config)
    part.train()
    for step in (5, 10, 15):
        again = make_trainer(
            folder=f"again{step}", resume=str(part.run.checkpoints / f"checkpoint-{step}"), **config
        )
        again.train()
        assert same_bits(whole, again)
    assert whole.current_epoch == 2


def test_resume_onto_another_number_of_threads(make_trainer, same_bits, threads):
    threads(2)
    whole = make_trainer(folder="whole", save_every=3)
    whole.train()
    threads(3)
    again = make_trainer(folder="again", resume=str(whole.run.checkpoints / "checkpoint-3"))
    again.train()
    assert same_bits(whole, again)


def test_auto_takes_the_newest_checkpoint_of_the_directory_or_starts(make_trainer):
    first = make_trainer(max_steps=4, resume="auto")
    assert first.current_step == 0
    first.train()
    with pytest.warns(RuntimeWarning, match=r"\(scheduler.max_steps: 4 then, 9 now\)"):
        again = make_trainer(max_steps=9, resume="auto")
    assert again.current_step == 4
    again.train()
    assert json.loads((again.run.path / "summary.json").read_text())["steps"] == 9


def test_auto_without_a_directory_finds_the_run_of_the_same_configuration(
    make_trainer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    first = make_trainer(output_dir="", name="mine")
    first.train()
    assert make_trainer(output_dir="", name="mine", resume="auto").current_step == 6
    assert make_trainer(output_dir="", name="other", resume="auto").current_step == 0
    changed = make_trainer(output_dir="", name="mine", resume="auto", learning_rate=0.5)
    assert changed.current_step == 0
    decay = {"optimizer": ("adamw", {"weight_decay": 0.5})}
    assert make_trainer(output_dir="", name="mine", resume="auto", parts=decay).current_step == 0


def test_a_run_directory_and_the_founding_name_mean_a_checkpoint(make_trainer):
    trainer = make_trainer()
    trainer.train()
    founding = trainer.run.checkpoints / "checkpoint_step_6.bin"
    for target in (trainer.run.path, trainer.run.checkpoints, founding):
        assert make_trainer(folder="other", resume_from=str(target)).current_step == 6


def test_resume_goes_on_in_the_directory_of_the_run(make_trainer):
    trainer = make_trainer(save_every=3)
    trainer.train()
    path = str(trainer.run.checkpoints / "checkpoint-3")
    assert make_trainer(output_dir="", resume=path).run.path == trainer.run.path


def test_other_conditions_are_a_warning(make_trainer):
    trainer = make_trainer()
    trainer.train()
    with pytest.warns(RuntimeWarning, match="seed: 42 then, 43 now.*will not equal"):
        make_trainer(folder="other", seed=43, resume=str(trainer.run.path))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"n_embd": 64}, r"made with model.n_embd = 32, this model has 64. Use the config"),
        ({"n_layer": 3}, r"made with model.n_layer = 2, this model has 3"),
        ({"bias": False}, r"made with model.bias = True, this model has False"),
        ({"n_head": 4}, r"made with model.n_head = 2, this model has 4"),
        ({"activation": "gelu_tanh"}, r"made with model.activation = 'gelu', this model has"),
    ],
)
def test_a_checkpoint_of_another_model_changes_nothing(make_trainer, make_model, shape, message):
    trainer = make_trainer()
    trainer.train()
    other = make_trainer(folder="other", parts={"model": make_model(**shape)})
    before = other.model.parameters.data.copy()
    with pytest.raises(CheckpointError, match=message):
        other.load_checkpoint(trainer.run.path)
    assert np.array_equal(before, other.model.parameters.data)
    assert other.current_step == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a | {"extra": a[BIAS]}, "a gpt2 model of 2 layers, got 'extra' besides"),
        (
            lambda a: {k: v for k, v in a.items() if k != BIAS},
            f"array {BIAS} of shape .*, got none",
        ),
        (lambda a: a | {BIAS: a[BIAS][:5]}, rf"{BIAS} of shape .*, got \(5,\)"),
        (lambda a: a | {BIAS: a[BIAS].astype("f8")}, "parameter final_norm.bias: .*float64"),
    ],
)
def test_parameters_that_do_not_fit_the_configuration_are_named(make_trainer, change, message):
    trainer = make_trainer()
    trainer.train()
    path = trainer.run.checkpoints / "checkpoint-6" / "model.safetensors"
    save_file(change(load_file(path)), path)
    reseal(path.parent)
    with pytest.raises(CheckpointError, match=message):
        make_trainer(folder="other", resume=str(trainer.run.path))


def test_another_text_is_refused(make_trainer, make_model):
    def run(text: str, **config):
        tokenizer = CharTokenizer.from_text(text)
        dataset = TokenDataset(tokenizer.encode_array(text * 40), 16, vocab_size=17)
        return make_trainer(parts={"dataset": dataset, "tokenizer": tokenizer}, **config)

    first = run("the quick brown f")
    first.train()
    assert run("the quick brown f", folder="b", resume=str(first.run.path)).current_step == 6
    with pytest.raises(CheckpointError, match="made with another tokenizer, or one of another t"):
        run("the quick brown g", folder="c", resume=str(first.run.path))


def test_checkpoints_of_an_earlier_run_are_set_aside_not_mixed(make_trainer):
    make_trainer(max_steps=9, save_every=4).train()
    again = make_trainer(max_steps=6, save_every=2, keep_checkpoints=2)
    again.train()
    assert sorted(p.name for p in again.run.checkpoints.iterdir()) == [
        "checkpoint-4",
        "checkpoint-6",
        "superseded-checkpoint-4",
        "superseded-checkpoint-8",
        "superseded-checkpoint-9",
    ]


def test_the_checkpoint_just_written_is_never_pruned(make_trainer):
    trainer = make_trainer(keep_checkpoints=1)
    for step in (9, 3):
        trainer.save_checkpoint(0, step)
    assert [p.name for p in trainer.run.checkpoints.iterdir()] == ["checkpoint-3"]


def test_a_folder_of_checkpoints_with_another_name_is_found(make_trainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = make_trainer(output_dir="", checkpoint_dir="a/b")
    trainer.train()
    again = make_trainer(output_dir="", checkpoint_dir="a/b", resume=str(trainer.run.path))
    assert again.current_step == 6
    assert again.run.path.resolve() == trainer.run.path.resolve()


def test_a_leftover_of_a_killed_process_does_not_stop_a_save(make_trainer):
    trainer = make_trainer()
    leftover = trainer.run.checkpoints / f".tmp-checkpoint-6-{os.getpid()}"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("written")
    trainer.train()
    assert [p.name for p in trainer.run.checkpoints.iterdir()] == ["checkpoint-6"]


@pytest.mark.parametrize("name", ["write_file", "make_directory", "rename", "sync_directory"])
def test_a_full_disk_leaves_earlier_checkpoints_and_no_litter(make_trainer, monkeypatch, name):
    trainer = make_trainer(save_every=3)
    trainer.train()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk.Disk, name, full)
        message = r"could not be written \(.*No space left on device\); earlier checkpoints are un"
        with pytest.raises(CheckpointError, match=message):
            trainer.save_checkpoint(0, 7)
    assert sorted(p.name for p in trainer.run.checkpoints.iterdir()) == [
        "checkpoint-3",
        "checkpoint-6",
    ]


def test_other_options_of_optimizer_and_loss_are_told(make_trainer):
    loss = ("label_smoothing", {"smoothing": 0.2})
    trainer = make_trainer(parts={"optimizer": ("adamw", {"weight_decay": 0.1}), "loss_fn": loss})
    trainer.train()
    given = {
        "optimizer": ("adamw", {"weight_decay": 0.2, "beta2": 0.999}),  # which is the default
        "loss_fn": ("label_smoothing", {"smoothing": 0.3}),
    }
    said = (
        r"conditions \(optimizer\.weight_decay: 0\.1 then, 0\.2 now; "
        r"loss\.smoothing: 0\.2 then, 0\.3 now\): it will not equal"
    )
    with pytest.warns(RuntimeWarning, match=said):
        make_trainer(folder="o", parts=given).load_checkpoint(trainer.run.path)
    state = trainer.run.path / "checkpoints/checkpoint-6/trainer_state.json"
    values = json.loads(state.read_text("utf-8"))
    assert values["optimizer"]["weight_decay"] == 0.1
    assert "base_lr" not in values["optimizer"]


def test_another_loss_is_told_by_its_name(make_trainer):
    trainer = make_trainer(parts={"loss_fn": ("label_smoothing", {"smoothing": 0.2})})
    trainer.train()
    said = r"conditions \(loss\.name: label_smoothing then, cross_entropy now\)"
    with pytest.warns(RuntimeWarning, match=said):
        make_trainer(folder="o").load_checkpoint(trainer.run.path)


def test_another_optimizer_is_refused(make_trainer):
    trainer = make_trainer()
    trainer.train()
    other = make_trainer(folder="o", parts={"optimizer": "sgd"})
    before = other.model.parameters.data.copy()
    with pytest.raises(CheckpointError, match="optimizer sgd: the saved state does not fit"):
        other.load_checkpoint(trainer.run.path)
    assert np.array_equal(before, other.model.parameters.data)


@pytest.mark.filterwarnings("ignore:the run goes on under other conditions:RuntimeWarning")
def test_a_disk_that_fails_between_two_arrays_leaves_nothing_of_the_checkpoint(
    make_trainer, monkeypatch, same_bits
):
    """All of it is read before anything is changed."""
    saved = make_trainer(folder="saved", parts={"scheduler": "cosine"})
    saved.train()
    trainer, other = (
        make_trainer(folder=name, parts={"scheduler": "cosine"}, max_steps=3) for name in "ab"
    )
    trainer.train()
    other.train()
    read, count = TensorFile.__getitem__, len(trainer.model.parameters)
    count += len(trainer.optimizer.state())
    for fails_at in range(1, count + 1):
        reads = iter(range(1, count + 1))

        def failing(file, name, reads=reads, fails_at=fails_at):
            if file.file.path.name != "trainer.safetensors" and next(reads) == fails_at:
                raise CheckpointError(f"{name}: Input/output error")
            return read(file, name)

        with monkeypatch.context() as patch:
            patch.setattr(TensorFile, "__getitem__", failing)
            with pytest.raises(CheckpointError, match="Input/output error"):
                trainer.load_checkpoint(saved.run.path)
        assert same_bits(trainer, other), fails_at
        assert trainer.optimizer.get_lr() == other.optimizer.get_lr()
        assert trainer.current_step == 3
    trainer.load_checkpoint(saved.run.path)
    assert same_bits(trainer, saved)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere: no such checkpoint; give a directory checkpoint-N"),
        ("", "holds no checkpoint; give a directory checkpoint-N"),
    ],
)
def test_a_missing_checkpoint(make_trainer, tmp_path, path, message):
    with pytest.raises(CheckpointError, match=message):
        make_trainer(resume=str(tmp_path / path))


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json", "config.json"])
def test_a_truncated_file_is_named(make_trainer, name):
    trainer = make_trainer()
    trainer.train()
    path = trainer.run.checkpoints / "checkpoint-6" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=rf"{name}: the checkpoint is damaged"):
        make_trainer(folder="other", resume=str(trainer.run.path))


def test_a_state_of_the_wrong_type_is_named(make_trainer):
    trainer = make_trainer()
    trainer.train()
    path = trainer.run.checkpoints / "checkpoint-6" / "trainer_state.json"
    path.write_text(json.dumps({"global_step": "many"}))
    reseal(path.parent)
    with pytest.raises(CheckpointError, match=r"trainer_state.json: not the state of a trainer"):
        make_trainer(folder="other", resume=str(trainer.run.path))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("global_step", -1, "not the state of a trainer (ValueError(\"expected global_step to be a "
         "count, got '-1'\")); use an earlier checkpoint"),
        ("epoch", 1.5, "not the state of a trainer (ValueError(\"expected epoch to be a count, got "
         "'1.5'\")); use an earlier checkpoint"),
        ("skipped_steps", 2**63, "not the state of a trainer (ValueError(\"expected skipped_steps "
         "to be a count, got '9223372036854775808'\")); use an earlier checkpoint"),
        ("parts", None, "expected the parts' states by name, got 'None'; use an earlier checkpoint")
    ],
)  # fmt: skip
def test_a_position_that_no_run_has_is_refused(make_trainer, key, value, reason):
    trainer = make_trainer()
    trainer.train()
    path = trainer.run.checkpoints / "checkpoint-6" / "trainer_state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    reseal(path.parent)
    before = trainer.model.parameters.data.copy()
    with pytest.raises(CheckpointError) as error:
        trainer.load_checkpoint(path.parent)
    assert str(error.value) == f"{path}: {reason}"
    assert np.array_equal(before, trainer.model.parameters.data)


def test_the_engine_is_named(make_trainer):
    trainer = make_trainer()
    trainer.train()
    path = trainer.run.checkpoints / "checkpoint-6" / "trainer_state.json"
    assert json.loads(path.read_text())["engine"] == ops.engine()


def test_a_run_goes_on_from_the_newest_that_verifies_and_sets_the_damaged_aside(make_trainer):
    trainer = make_trainer(save_every=2)
    trainer.train()
    path = trainer.run.checkpoints / "checkpoint-6" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="checkpoint-6 is damaged .* taking checkpoint-4"):
        again = make_trainer(resume="auto")
    assert again.current_step == 4
    again.train()
    assert sorted(p.name for p in again.run.checkpoints.iterdir()) == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-6",
        "superseded-checkpoint-6",
    ]


def test_a_run_of_which_nothing_verifies_does_not_start_anew(make_trainer):
    trainer = make_trainer()
    trainer.train()
    (trainer.run.checkpoints / "checkpoint-6" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest.json: the checkpoint is damaged or inc"):
        make_trainer(resume="auto")


def test_the_best_are_kept_and_each_is_evaluated(make_trainer, tokens):
    held_out = TokenDataset(tokens[:100], 16, vocab_size=17)
    config = {"save_every": 2, "keep_checkpoints": 1, "keep_best": 1, "max_steps": 10}
    trainer = make_trainer(parts={"val_dataset": held_out}, learning_rate=0.3, **config)
    trainer.train()
    everything = make_trainer(
        folder="all",
        parts={"val_dataset": held_out},
        learning_rate=0.3,
        **config | {"keep_best": 9},
    )
    everything.train()
    losses = {
        path.name: checkpoint.read_manifest(path).metrics["eval/loss"]
        for path in everything.run.checkpoints.iterdir()
    }
    assert len(losses) == 5
    best = min(losses, key=losses.__getitem__)
    assert {p.name for p in trainer.run.checkpoints.iterdir()} == {best, "checkpoint-10"}
    assert checkpoint.resolve(trainer.run.path / "best").name == best


def test_the_best_of_nothing_measured_is_refused(make_trainer):
    with pytest.raises(ConfigError, match=r"^training.keep_best: expected validation data to com"):
        make_trainer(keep_best=2)
    make_trainer(keep_best=2, best_metric="train/loss")


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ({"max_steps": 4}, {"max_steps": 9}, "scheduler.max_steps: 4 then, 9 now"),
        (
            {"parts": {"scheduler": ("cosine", {"warmup_steps": 1})}},
            {"parts": {"scheduler": ("cosine", {"warmup_steps": 2, "min_lr": 1e-3})}},
            "scheduler.warmup_steps: 1 then, 2 now; scheduler.min_lr: 0.0 then, 0.001 now",
        ),
        (
            {"parts": {"scheduler": "constant"}},
            {"parts": {"scheduler": ("step", {"step_size": 3})}},
            "scheduler.name: constant then, step now; scheduler.step_size: None then, 3 now",
        ),
    ],
)
def test_another_schedule_is_told_with_old_and_new(make_trainer, then, now, told):
    make_trainer(save_every=2, **then).train()
    with pytest.warns(RuntimeWarning, match="other conditions") as caught:
        make_trainer(resume="auto", **now)
    (said,) = [str(warning.message) for warning in caught]
    assert told in said
    assert said.endswith("; the learning rates follow the new schedule from here on")


def test_more_steps_of_a_rate_that_does_not_fall_change_nothing(make_trainer):
    parts = {"scheduler": "constant"}
    make_trainer(max_steps=4, parts=parts).train()
    assert make_trainer(max_steps=9, resume="auto", parts=parts).current_step == 4
