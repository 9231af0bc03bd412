"""TrainingConfig: the founding fields, and a sentence for everything that is wrong."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm.config import ConfigNote, TrainingConfig
from tisslm.errors import ConfigError


def test_founding_fields_have_the_founding_defaults() -> None:
    config = TrainingConfig()
    founding = {
        "epochs": 10,
        "batch_size": 32,
        "learning_rate": 1e-4,
        "max_grad_norm": 1.0,
        "save_every": 1000,
        "checkpoint_dir": "checkpoints",
        "keep_checkpoints": 3,
        "resume_from": "",
        "use_mixed_precision": False,
        "gradient_accumulation_steps": 1,
        "log_gradients": False,
        "validation_frequency": 100,
    }
    added = {
        "max_steps": None,
        "seed": 42,
        "precision": "fp32",
        "threads": None,
        "output_dir": "",
        "name": "run",
        "logging_steps": 1,
        "resume": "",
        "activation_checkpointing": "none",
        "memory_limit": "",
        "loss_scale": "dynamic",
        "loss_scale_init": 65536,
        "loss_scale_growth_interval": 2000,
        "keep_best": 0,
        "keep_every": 0,
        "best_metric": "eval/loss",
        "best_mode": "auto",
        "on_nonfinite": "skip",
        "max_nonfinite": 3,
        "spike_action": "warn",
        "spike_window": 100,
        "spike_threshold": 10.0,
        "max_time": "",
        "on_save_error": "continue",
        "async_save": False,
        "monitor_steps": 100,
        "on_sink_error": "disable",
        "eval_batches": 0,
        "sample_every": 0,
        "sample_prompts": [""],
        "sample_tokens": 100,
        "early_stopping_patience": 0,
        "early_stopping_min_delta": 0.0,
        "restore_best": False,
        "overfit_batches": 0,
        "profile_steps": 0,
        "global_batch_size": None,
        "reduction_parts": None,
        "rank_check_steps": 100,
        "stall_timeout": 300.0,
        "freeze": [],
        "frozen_precision": "fp32",
    }
    assert config.model_dump() == founding | added


def test_fields_are_assigned_as_in_the_founding_example() -> None:
    config = TrainingConfig()
    config.epochs = 10
    config.batch_size = 16
    config.max_grad_norm = 0
    config.resume_from = "checkpoints/checkpoint_step_5000.bin"
    assert (config.epochs, config.batch_size, config.max_grad_norm) == (10, 16, 0.0)
    assert config.resume_target == "checkpoints/checkpoint_step_5000.bin"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, "training.batch_size: expected an integer >= 1, got 0"),
    ({"batch_size": "12"}, 'training.batch_size: expected an integer >= 1, got "12"'),
    ({"batch_size": 1.5}, "training.batch_size: expected an integer >= 1, got 1.5"),
    ({"epochs": True}, "training.epochs: expected an integer >= 1, got true"),
    ({"epochs": None}, "training.epochs: expected an integer >= 1, got nothing"),
    ({"epochs": "{x}"}, 'training.epochs: expected an integer >= 1, got "{x}"'),
    ({"epochs": [1, "a"]}, 'training.epochs: expected an integer >= 1, got [1, "a"]'),
    ({"epochs": {"a": 1}}, "training.epochs: expected an integer >= 1, got a table"),
    (
        {"epochs": "x" * 99},
        f'training.epochs: expected an integer >= 1, got "{"x" * 56}...',
    ),
    (
        {"epochs": -(2**9999)},
        "training.epochs: expected an integer >= 1, got an integer of 10000 bits",
    ),
    ({"learning_rate": 0}, "training.learning_rate: expected a finite number > 0, got 0"),
    ({"learning_rate": True}, "training.learning_rate: expected a finite number > 0, got true"),
    (
        {"learning_rate": float("nan")},
        "training.learning_rate: expected a finite number > 0, got nan",
    ),
    (
        {"learning_rate": float("inf")},
        "training.learning_rate: expected a finite number > 0, got inf",
    ),
    (
        {"learning_rate": 10**400},
        "training.learning_rate: expected a finite number > 0, got an integer of 1329 bits",
    ),
    (
        {"max_grad_norm": -1.0},
        "training.max_grad_norm: expected a finite number >= 0, got -1.0; 0 switches clipping off",
    ),
    ({"save_every": -1}, "training.save_every: expected an integer >= 0, got -1"),
    (
        {"checkpoint_dir": ""},
        'training.checkpoint_dir: expected a path that is not empty, got ""',
    ),
    (
        {"resume_from": "a\0b"},
        'training.resume_from: expected a path, got "a\\u0000b"',
    ),
    ({"resume": True}, "training.resume: expected a path, got true"),
    ({"log_gradients": 1}, "training.log_gradients: expected true or false, got 1"),
    (
        {"max_steps": 0},
        "training.max_steps: expected an integer >= 1, or -1 for no limit, got 0",
    ),
    ({"threads": 0}, "training.threads: expected an integer >= 1, got 0"),
    ({"seed": -1}, "training.seed: expected an integer from 0 to 2^64 - 1, got -1"),
    (
        {"seed": 2**64},
        "training.seed: expected an integer from 0 to 2^64 - 1, got 18446744073709551616",
    ),
    *(
        (
            {"precision": value},
            'training.precision: expected "fp32", "bf16", "fp16" or "auto", got ' + shown,
        )
        for value, shown in (("fp64", '"fp64"'), (8, "8"), (True, "true"), (None, "nothing"))
    ),
    *(
        (
            values,
            'training.precision: expected "auto", "bf16" or "fp16" with use_mixed_precision = '
            'true, got "fp32"; keep one of the two',
        )
        for values in (
            {"use_mixed_precision": True, "precision": "fp32"},
            {"precision": "fp32", "use_mixed_precision": True},
        )
    ),
    *(
        (
            {"activation_checkpointing": value},
            'training.activation_checkpointing: expected "none", "full", "auto" or "every=N" with '
            "N >= 1, got " + shown,
        )
        for value, shown in (
            ("some", '"some"'),
            ("every=0", '"every=0"'),
            ("every=", '"every="'),
            (2, "2"),
        )
    ),
    *(
        (
            {"memory_limit": value},
            'training.memory_limit: expected a size such as "8GiB" or "500MB", or a number of '
            f'bytes, got {shown}; "" leaves it to the machine',
        )
        for value, shown in (
            ("8 apples", '"8 apples"'),
            ("0GiB", '"0GiB"'),
            (0, "0"),
            (-1, "-1"),
            (1.5, "1.5"),
            (True, "true"),
        )
    ),
    *(
        (
            {"max_time": value},
            'training.max_time: expected a duration such as "3h30m" or "90s", or a number of '
            f'seconds > 0, got {shown}; "" sets no limit',
        )
        for value, shown in (
            ("soon", '"soon"'),
            ("30m3h", '"30m3h"'),
            ("0s", '"0s"'),
            (0, "0"),
            (-1.5, "-1.5"),
            (float("inf"), "inf"),
            (True, "true"),
        )
    ),
    (
        {"on_save_error": "retry"},
        'training.on_save_error: expected "continue" or "stop", got "retry"',
    ),
    *(
        (
            {"loss_scale": value},
            'training.loss_scale: expected "dynamic" or a power of two from 1 to 2^24, got '
            + shown,
        )
        for value, shown in ((1000, "1000"), (0, "0"), (2**25, "33554432"), (True, "true"))
    ),
    (
        {"loss_scale_init": 1000},
        "training.loss_scale_init: expected a power of two from 1 to 2^24, got 1000",
    ),
    (
        {"bf16": "yes"},
        'training.bf16: expected true or false, got "yes"; the key here is training.precision',
    ),
    *(
        (
            {"name": name},
            "training.name: expected a name that can be part of a directory's, without slashes "
            f'or a leading dot, got "{name}"',
        )
        for name in ("", "a/b", "..", " a", "a ")
    ),
    (
        {"resume": "a", "resume_from": "b"},
        'training.resume: expected the same as resume_from = "b", got "a"; keep one of the two',
    ),
    ({"btach_size": 3}, "training.btach_size: unknown key; did you mean training.batch_size?"),
    ({"max_iter": 3}, "training.max_iter: unknown key; did you mean training.max_steps?"),
    (
        {"weight_decay": 0.1},
        "training.weight_decay: unknown key; it belongs to optimizer.weight_decay",
    ),
    (
        {"compile": True},
        "training.compile: unknown key; the kernels are compiled when TissLM is installed, so "
        "leave it out",
    ),
    ({"eval_batches": -1}, "training.eval_batches: expected an integer >= 0, got -1"),
    (
        {"sample_prompts": []},
        "training.sample_prompts: expected a list of strings with at least one, got []; "
        "sample_every = 0 switches samples off",
    ),
    (
        {"sample_prompts": ["a", 1]},
        "training.sample_prompts: expected a list of strings with at least one, got 1; "
        "sample_every = 0 switches samples off",
    ),
    ({"sample_tokens": 0}, "training.sample_tokens: expected an integer >= 1, got 0"),
    (
        {"zzz": 1},
        "training.zzz: unknown key; the keys of [training] are epochs, batch_size, learning_rate, "
        "max_grad_norm, save_every, checkpoint_dir, keep_checkpoints, resume_from, "
        "use_mixed_precision, gradient_accumulation_steps, log_gradients, validation_frequency, "
        "max_steps, seed, precision, threads, output_dir, name, logging_steps, resume, "
        "activation_checkpointing, memory_limit, loss_scale, loss_scale_init, "
        "loss_scale_growth_interval, keep_best, keep_every, best_metric, best_mode, on_nonfinite, "
        "max_nonfinite, spike_action, spike_window, spike_threshold, max_time, on_save_error, "
        "async_save, monitor_steps, on_sink_error, eval_batches, sample_every, sample_prompts, "
        "sample_tokens, early_stopping_patience, early_stopping_min_delta, restore_best, "
        "overfit_batches, profile_steps, global_batch_size, "
        "reduction_parts, rank_check_steps, stall_timeout, freeze, frozen_precision",
    ),
    (
        {"best_metric": "eval/lots"},
        'training.best_metric: expected "eval/loss", "eval/perplexity", "eval/bpb", '
        '"eval/accuracy", "eval/top5_accuracy", "eval/recall_at_1", "eval/recall_at_5", '
        '"eval/recall_at_10", "eval/accuracy_at_1", "eval/accuracy_at_5", "eval/accuracy_at_10", '
        '"eval/mrr_at_10", "eval/ndcg_at_10", "eval/triplet_accuracy", "eval/spearman", '
        '"eval/pearson", "eval/ema_loss", "eval/ema_accuracy", "eval/ema_ndcg_at_10", '
        '"eval/ema_spearman", "eval/rewards/accuracies", "eval/rewards/margins" or '
        '"train/loss", got "eval/lots"',
    ),
    ({"best_mode": "most"}, 'training.best_mode: expected "auto", "min" or "max", got "most"'),
    (
        {"early_stopping_patience": -1},
        "training.early_stopping_patience: expected an integer >= 0, got -1",
    ),
    (
        {"early_stopping_min_delta": float("nan")},
        "training.early_stopping_min_delta: expected a finite number >= 0, got nan",
    ),
    (
        {"on_nonfinite": "ignore"},
        'training.on_nonfinite: expected "skip" or "stop", got "ignore"',
    ),
    (
        {"on_sink_error": "ignore"},
        'training.on_sink_error: expected "disable" or "fail", got "ignore"',
    ),
    ({"max_nonfinite": 0}, "training.max_nonfinite: expected an integer >= 1, got 0"),
    (
        {"spike_action": True},
        'training.spike_action: expected "off", "warn", "skip" or "stop", got true',
    ),
    ({"spike_window": 9}, "training.spike_window: expected an integer >= 10, got 9"),
    ({"spike_threshold": 0}, "training.spike_threshold: expected a finite number > 0, got 0"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=[m[:60] for _, m in WRONG])
def test_a_wrong_value_is_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainingConfig(**values)
    assert str(error.value) == message
    assert error.value.__context__ is None or error.value.__suppress_context__


def test_a_wrong_assignment_is_one_sentence_and_changes_nothing() -> None:
    config = TrainingConfig(resume="a")
    before = config.model_copy()
    with pytest.raises(ConfigError, match=r"^training\.epochs: expected an integer >= 1, got 0$"):
        config.epochs = 0
    with pytest.raises(
        ConfigError,
        match=re.escape('training.resume_from: expected the same as resume = "a", got "b"'),
    ):
        config.resume_from = "b"
    with pytest.raises(ConfigError, match=r"^training\.epoch: unknown key; did you mean"):
        config.epoch = 3  # type: ignore[attr-defined]
    assert config == before


def test_numbers_of_other_types_are_taken_for_what_they_are() -> None:
    values: dict[str, Any] = {
        "batch_size": np.int64(4),
        "max_steps": 1e4,
        "learning_rate": np.float32(0.5),
        "max_grad_norm": 1,
    }
    config = TrainingConfig(**values)
    assert (config.batch_size, config.max_steps) == (4, 10_000)
    assert (config.learning_rate, config.max_grad_norm) == (0.5, 1.0)
    assert type(config.batch_size) is int
    assert type(config.max_steps) is int
    assert type(config.learning_rate) is float


def test_minus_one_steps_is_no_limit_as_elsewhere() -> None:
    assert TrainingConfig(max_steps=-1).max_steps is None
    assert TrainingConfig(max_steps=None, threads=None).max_steps is None


def test_paths_may_be_path_objects() -> None:
    values: dict[str, Any] = {"output_dir": Path("runs") / "x"}
    assert TrainingConfig(**values).output_dir == "runs/x"


@pytest.mark.parametrize(
    ("spelling", "key"),
    [
        ("max_iters", "max_steps"),
        ("num_train_epochs", "epochs"),
        ("per_device_train_batch_size", "batch_size"),
        ("micro_batch_size", "batch_size"),
        ("accumulate_grad_batches", "gradient_accumulation_steps"),
        ("grad_clip", "max_grad_norm"),
        ("gradient_clip_val", "max_grad_norm"),
        ("lr", "learning_rate"),
        ("save_steps", "save_every"),
        ("save_total_limit", "keep_checkpoints"),
        ("save_top_k", "keep_best"),
        ("keep_period", "keep_every"),
        ("eval_steps", "validation_frequency"),
        ("eval_interval", "validation_frequency"),
        ("log_interval", "logging_steps"),
    ],
)
def test_spellings_of_other_trainers_are_read_with_a_note(spelling: str, key: str) -> None:
    values: dict[str, Any] = {spelling: 7}
    with pytest.warns(ConfigNote, match=f"^training.{spelling} is read as training.{key}$") as seen:
        config = TrainingConfig(**values)
    assert getattr(config, key) == 7
    assert seen[0].filename == __file__
    other = TrainingConfig()
    with pytest.warns(ConfigNote, match=f"^training.{spelling} is read as training.{key}$") as seen:
        setattr(other, spelling, 7)
    assert other == config
    assert seen[0].filename == __file__


def test_two_spellings_must_agree() -> None:
    agreeing: dict[str, Any] = {"max_iters": 5, "max_steps": 5}
    with pytest.warns(ConfigNote):
        assert TrainingConfig(**agreeing).max_steps == 5
    with (
        pytest.warns(ConfigNote),
        pytest.raises(
            ConfigError,
            match=r"^training\.max_steps: given as max_iters = 5 and as max_steps = 6; keep one$",
        ),
    ):
        TrainingConfig(**agreeing | {"max_steps": 6})


def test_our_own_names_give_no_note() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TrainingConfig(**TrainingConfig().model_dump())


def test_a_copy_is_equal_and_independent() -> None:
    config = TrainingConfig(seed=7)
    other = copy.deepcopy(config)
    other.seed = 8
    assert (config.seed, other.seed) == (7, 8)


@pytest.mark.parametrize(("resume", "resume_from"), [("auto", ""), ("", "auto"), ("auto", "auto")])
def test_both_spellings_of_resume_lead_to_one_target(resume: str, resume_from: str) -> None:
    assert TrainingConfig(resume=resume, resume_from=resume_from).resume_target == "auto"
    assert TrainingConfig().resume_target == ""


@pytest.mark.parametrize(
    ("given", "precision"),
    [
        ("bfloat16", "bf16"),
        ("BF16", "bf16"),
        ("bf16-mixed", "bf16"),
        ("bf16-true", "bf16"),
        ("amp_bf16", "bf16"),
        ("float16", "fp16"),
        ("16-mixed", "fp16"),
        (16, "fp16"),
        ("float32", "fp32"),
        ("32-true", "fp32"),
        (32, "fp32"),
        ("auto", "auto"),
    ],
)
def test_a_precision_by_the_names_of_others(given: Any, precision: str) -> None:
    assert TrainingConfig(precision=given).precision == precision
    with pytest.warns(ConfigNote, match="^training.dtype is read as training.precision$"):
        assert TrainingConfig(**{"dtype": given}).precision == precision


@pytest.mark.parametrize("flag", ["bf16", "fp16"])
def test_a_flag_of_other_trainers_is_a_precision(flag: str) -> None:
    note = f'^training.{flag} = true is read as training.precision = "{flag}"$'
    other = {"bf16": "fp16", "fp16": "bf16"}[flag]
    values: dict[str, Any] = {flag: True, other: False}
    with pytest.warns(ConfigNote, match=note) as seen:
        config = TrainingConfig(**values)
    assert config.precision == flag
    assert seen[0].filename == __file__
    assigned = TrainingConfig()
    with pytest.warns(ConfigNote, match=note):
        setattr(assigned, flag, True)
    setattr(assigned, other, False)
    assert assigned.precision == flag
    with (
        pytest.warns(ConfigNote),
        pytest.raises(
            ConfigError,
            match=r'^training.precision: given as bf16 = "bf16" and as fp16 = "fp16"; keep one$',
        ),
    ):
        TrainingConfig(**{"bf16": True, "fp16": True})  # type: ignore[arg-type]


def test_mixed_precision_means_auto_where_no_precision_is_given() -> None:
    assert TrainingConfig(use_mixed_precision=True).precision == "auto"
    assert TrainingConfig(use_mixed_precision=True, precision="fp16").precision == "fp16"
    config = TrainingConfig()
    config.use_mixed_precision = True
    assert config.precision == "auto"
    config.use_mixed_precision = False
    assert config.precision == "fp32"
    again = TrainingConfig(**TrainingConfig(use_mixed_precision=True).model_dump())
    assert (again.use_mixed_precision, again.precision) == (True, "auto")


def test_mixed_precision_and_fp32_are_a_contradiction_when_assigned_too() -> None:
    config = TrainingConfig(precision="fp32")
    with pytest.raises(ConfigError, match=r'^training.precision: expected "auto", "bf16"'):
        config.use_mixed_precision = True
    assert not config.use_mixed_precision
    mixed = TrainingConfig(use_mixed_precision=True)
    with pytest.raises(ConfigError, match=r'^training.precision: expected "auto", "bf16"'):
        mixed.precision = "fp32"
    assert mixed.precision == "auto"


def test_checkpointing_may_be_a_flag() -> None:
    values: dict[str, Any] = {"gradient_checkpointing": True}
    with pytest.warns(ConfigNote, match="is read as training.activation_checkpointing$"):
        assert TrainingConfig(**values).activation_checkpointing == "full"
    given: dict[str, Any] = {"activation_checkpointing": False}
    assert TrainingConfig(**given).activation_checkpointing == "none"
    assert (
        TrainingConfig(activation_checkpointing="every=12").activation_checkpointing == "every=12"
    )


@pytest.mark.parametrize("size", [1, "500 mb", "8GiB", "1.5KiB", "2t"])
def test_a_memory_limit_stays_as_it_is_written(size: int | str) -> None:
    assert TrainingConfig(memory_limit=size).memory_limit == size


def test_a_prompt_is_a_list_of_one_and_keeps_its_commas() -> None:
    for given in ("Once, upon", ["Once, upon"], ("Once, upon",)):
        assert TrainingConfig(sample_prompts=given).sample_prompts == ["Once, upon"]


def test_the_default_prompts_of_two_configurations_are_two_lists() -> None:
    first, second = TrainingConfig(), TrainingConfig()
    first.sample_prompts.append("a")
    assert second.sample_prompts == [""]
