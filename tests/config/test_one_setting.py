"""The first thing that people do: change one setting of the default run.

Every key is tried alone, at values that a person would choose. What the default run says beside it
has to follow, or to give way; a key that is missing here fails a test.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm.config import (
    ConfigNote,
    DataSection,
    LogSection,
    ModelSection,
    RunConfig,
    TrainingConfig,
)
from tisslm.contracts import EmbeddingLoss, PreferenceLoss
from tisslm.datasets.sources.python_docs import python_docs_text
from tisslm.errors import ConfigError, DataError
from tisslm.registry import Registry, load_registry
from tisslm.tokenizers import BpeTokenizer
from tisslm.workflows.build.trainer import build_trainer, plan_run, read_run

pytestmark = pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")

TRAINING: dict[str, tuple[Any, ...]] = {
    "epochs": (1, 2, 10),
    "batch_size": (1, 7, 64),
    "learning_rate": (5e-5, 3e-4, 1.0),
    "max_grad_norm": (0, 0.5, 10),
    "save_every": (0, 1, 100000),
    "checkpoint_dir": ("c", "a/b", "checkpoints"),
    "keep_checkpoints": (0, 1, 50),
    "resume_from": ("", "{checkpoint}", "{run}"),
    "use_mixed_precision": (True, False, "true"),
    "gradient_accumulation_steps": (1, 3, 8),
    "log_gradients": (True, False, "true"),
    "validation_frequency": (0, 1, 100000),
    "max_steps": (1, 10, -1),
    "seed": (0, 1337, 2**64 - 1),
    "precision": ("bf16", "fp16", "auto"),
    "threads": (1, 2, 1),
    "output_dir": ("mine", "runs/x", ""),
    "name": ("a", "my-run", "b.c"),
    "logging_steps": (1, 10, 100000),
    "resume": ("auto", "", "{checkpoint}"),
    "activation_checkpointing": ("full", "every=2", "auto"),
    "memory_limit": ("8GiB", 4 * 2**30, ""),
    "loss_scale": ("dynamic", 1, 1024),
    "loss_scale_init": (1, 1024, 2**20),
    "loss_scale_growth_interval": (1, 100, 100000),
    "keep_best": (0, 1, 5),
    "keep_every": (0, 1, 100000),
    "best_metric": ("eval/accuracy", "eval/bpb", "train/loss"),
    "best_mode": ("auto", "min", "max"),
    "on_nonfinite": ("skip", "stop", "skip"),
    "max_nonfinite": (1, 2, 100),
    "spike_action": ("off", "skip", "stop"),
    "spike_window": (10, 50, 100000),
    "spike_threshold": (1, 5.5, 100),
    "max_time": ("3h30m", 60, ""),
    "on_save_error": ("continue", "stop", "stop"),
    "async_save": (True, False, "true"),
    "monitor_steps": (1, 10, 100000),
    "on_sink_error": ("disable", "fail", "fail"),
    "eval_batches": (0, 1, 100000),
    "sample_every": (0, 1, 100000),
    "sample_prompts": (["a"], ["", "def"], [""]),
    "sample_tokens": (1, 10, 500),
    "early_stopping_patience": (0, 1, 100),
    "early_stopping_min_delta": (0, 0.01, 1),
    "restore_best": (True, False, "true"),
    "overfit_batches": (0, 1, 100000),
    "profile_steps": (0, 1, 20),
    "global_batch_size": (12, 24, 32),
    "reduction_parts": (1, 1, 1),
    "rank_check_steps": (0, 1, 100),
    "stall_timeout": (0, 5, 600.5),
    "freeze": ([], ["embedding.*"], ["*norm*", "*.up.*"]),
    "frozen_precision": ("fp32", "fp32", "fp32"),  # bf16 needs something frozen
}
MODEL: dict[str, tuple[Any, ...]] = {
    "from": ("{run}", "{checkpoint}", "{published}"),
    "family": ("llama", "gpt_neox", "gpt2"),
    "preset": ("qwen3-tiny", "gpt2", "depth-3"),
    "n_layer": (1, 6, 12),
    "n_head": (1, 6, 12),
    "n_kv_head": (1, 2, 3),
    "n_embd": (50, 192, 768),
    "n_hidden": (0, 100, 1024),
    "seq_len": (8, 1024, 47000),
    "vocab_size": (128, 256, 50257),
    "dropout": (0, 0.1, 0.5),
    "bias": (True, False, "true"),
    "activation": ("relu2", "swiglu", "silu"),
    "norm": ("layer", "rms", "rms"),
    "norm_eps": (1e-6, 1e-5, 1e-3),
    "head_dim": (0, 16, 64),
    "qkv_bias": (True, False, "true"),
    "out_bias": (True, False, "true"),
    "mlp_bias": (True, False, "true"),
    "norm_bias": (True, False, "true"),
    "positions": ("learned", "rotary", "none"),
    "rope_theta": (100, 1e5, 500000.0),
    "rotary_fraction": (0.25, 0.5, 1),
    "rope_scaling": (
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "default"},
        {"type": "yarn", "factor": 4},
    ),
    "window": (0, 16, 64),
    "layer_types": (["full_attention"], ["full_attention", "full_attention"], ["full_attention"]),
    "causal": (True, False, "true"),
    "qk_norm": ("none", "head", "all"),
    "logit_cap": (0, 15, 30.0),
    "mup_base_width": (0, 64, 128),
    "mup_base_head_dim": (0, 32, 16),
    "parallel_residual": (True, False, "true"),
    "tie_embeddings": (True, False, "true"),
    "pooling": ("none", "mean", "last"),
    "projection": (0, 64, 256),
    "normalize": (True, False, "true"),
    "logit_scale": (0, 14.3, 20),
}
DATA: dict[str, tuple[Any, ...]] = {
    "name": ("text", "text", "text"),
    "path": ("{text}", "{short}", "{tokens}"),
    "valid_path": ("{text}", "{records}", ""),
    "valid_fraction": (0, 0.5, 0.01),
    "format": ("auto", "text", "jsonl"),
    "text_field": ("body", "text", "content"),
    "document_separator": ("\n\n", "<|endoftext|>", ""),
    "packing": ("whole", "stream", "whole"),
    "document_mask": (True, False, "true"),
    "mask_prompt": (True, False, "true"),
    "chat": ("plain", "template", "plain"),
    "bad_records": ("skip", "error", "skip"),
    "verify": (True, False, "true"),
    "vocab_size": (128, 256, 50257),
    "sources": ([{"path": "{text}"}], [{"path": "{text}"}, {"path": "{records}"}], []),
}
LOG: dict[str, tuple[Any, ...]] = {
    "sinks": (["csv"], [], ["console", "csv", "memory"]),
    "monitors": (["gradient_norms"], ["activation_stats", "attention_entropy"], []),
}
PARTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "optimizer": {
        "name": ("sgd", "adam", "rmsprop"),
        "beta1": (0.0, 0.8, 0.95),
        "beta2": (0.5, 0.95, 0.999),
        "eps": (1e-10, 1e-6, 1e-3),
        "weight_decay": (0, 0.01, 1),
        "nesterov": (False, "false", False),
        "alpha": (0.5, 0.9, 0.999),
        "centered": (True, False, "true"),
    },
    "scheduler": {
        "name": ("constant", "step", "reduce_on_plateau"),
        "max_steps": (10, 1500, 100000),
        "warmup_steps": (0, 100, 0.2),
        "min_lr": (0, 1e-5, 1e-3),
        "min_lr_ratio": (0, 0.1, 1),
        "step_size": (1, 500, 0.5),
        "power": (0, 1, 2.5),
        "cycles": (1, 3, 10),
        "growth": (1, 1.5, 2),
        "factor": (0.1, 0.5, 1),
        "patience": (1, 5, 100),
        "metric": ("eval/loss", "eval/accuracy", "eval/bpb"),
        "mode": ("min", "max", "auto"),
        "min_delta": (0, 1e-3, 1),
        "cooldown": (0, 1, 10),
    },
    "loss": {
        "name": ("cross_entropy", "label_smoothing", "focal"),
        "smoothing": (0, 0.1, 0.5),
        "gamma": (0, 1, 2.5),
    },
    "tokenizer": {
        "name": ("byte", "char", "bpe"),
        "characters": ("", "é", "абв"),
        "vocab_size": (256, 300, 1000),
        "path": ("{tokenizer}", "{tokenizer}", "{tokenizer}"),
        "min_frequency": (1, 5, 100),
        "special_tokens": (["<|endoftext|>"], [], ["<a>", "<b>"]),
    },
}
SECTIONS = {"training": TRAINING, "model": MODEL, "data": DATA, "log": LOG, **PARTS}

#: Options that several parts take and the default one does not: the error says which.
AMBIGUOUS = {
    "optimizer.momentum": "rmsprop or sgd",
    "scheduler.gamma": "exponential or step",
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    """Return the built-in parts, so that a plugin does not make an option ambiguous."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TISSLM_DISABLE_PLUGINS", "all")
        return load_registry()


@pytest.fixture(scope="module", autouse=True)
def short_text() -> Iterator[None]:
    """Read a tenth of the default run's text, which takes a tenth of the time."""
    text = python_docs_text()[:50000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tisslm.workflows.build.sources.python_docs_text", lambda: text)
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> dict[str, str]:
    """Write what paths name: a text, a short one, records, tokens, a tokenizer, a checkpoint."""
    folder = tmp_path_factory.mktemp("files")
    text = "".join(f"line {i} of a text that is read\n" for i in range(300))
    (folder / "text.txt").write_text(text)
    (folder / "short.txt").write_text(text[:200])
    (folder / "tiny.txt").write_text(text[:50])
    records = (json.dumps({"text": f"record {i} {text[:100]}"}) + "\n" for i in range(20))
    (folder / "records.jsonl").write_text("".join(records))
    (np.arange(2000) % 97).astype("<u2").tofile(folder / "tokens.bin")
    made = BpeTokenizer.from_text(text, vocab_size=260).state()
    (folder / "tokenizer.json").write_text(json.dumps(made["tokenizer"]))
    run = folder / "run"
    settings = [f"training.output_dir={run}", "log.sinks=[]", "model.n_layer=1"]
    trainer = build_trainer(load(settings), registry=registry)
    where = trainer.save_checkpoint(0, 0)
    (folder / "published").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / "published" / name).write_bytes((where / name).read_bytes())
    return {
        "text": str(folder / "text.txt"),
        "short": str(folder / "short.txt"),
        "tiny": str(folder / "tiny.txt"),
        "records": str(folder / "records.jsonl"),
        "tokens": str(folder / "tokens.bin"),
        "tokenizer": str(folder / "tokenizer.json"),
        "run": str(run),
        "checkpoint": str(where),
        "published": str(folder / "published"),
    }


def load(settings: list[str]) -> RunConfig:
    return RunConfig.load(None, settings, {})


def written(value: Any, files: dict[str, str]) -> str:
    """Write a value as people do after ``--set``: strings without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_toml(item, files) for item in value)}]"
    if isinstance(value, dict):
        return _toml(value, files)
    return _filled(value, files) if isinstance(value, str) else str(value)


def _toml(value: Any, files: dict[str, str]) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v, files)}" for k, v in value.items()) + "}"
    return json.dumps(_filled(value, files) if isinstance(value, str) else value)


def _filled(text: str, files: dict[str, str]) -> str:
    return files[text[1:-1]] if text.startswith("{") else text


def cases() -> Iterator[tuple[str, Any]]:
    for section, keys in SECTIONS.items():
        for key, values in keys.items():
            for value in dict.fromkeys(map(repr, values)):
                yield f"{section}.{key}", next(v for v in values if repr(v) == value)


def test_every_key_is_in_the_table(registry: Registry) -> None:
    for cls in (TrainingConfig, ModelSection, DataSection, LogSection):
        assert sorted(SECTIONS[cls.section]) == sorted(cls.model_fields), cls.section
    for section, keys in PARTS.items():
        names = [part.entry.name for part in registry.entries(section)]
        # losses of vectors are none of a language model, and those of pairs none of a text, which
        # the default run has
        others = (EmbeddingLoss, PreferenceLoss)
        names = [n for n in names if not issubclass(registry.get(section, n), others)]
        names = [n for n in names if n != "distillation"]  # which needs a teacher beside the text
        known = {"name"}.union(*(registry.options(section, name) for name in names))
        ambiguous = {key.partition(".")[2] for key in AMBIGUOUS if key.startswith(section)}
        assert set(keys) | ambiguous == known, section
    assert all(len(values) == 3 for keys in SECTIONS.values() for values in keys.values())


@pytest.mark.parametrize(("key", "value"), list(cases()), ids=str)
def test_any_key_may_be_changed_alone(
    key: str,
    value: Any,
    files: dict[str, str],
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load([f"{key}={written(value, files)}"])
    found = read_run(config, registry)
    again = RunConfig.from_mapping(found.config.resolved())
    assert again == found.config, "what is recorded is what was run"
    if key.startswith(("model.", "data.", "tokenizer.")):
        plan_run(found, registry).plan()
        return
    trainer = build_trainer(again.changed("model", n_layer=1), registry=registry)
    if key.startswith(("optimizer.", "scheduler.", "loss.")):
        tokens = np.arange(2 * 9, dtype=np.int32).reshape(2, 9)
        for _ in range(2):
            trainer.train_step(tokens[:, :-1], tokens[:, 1:])
        assert np.isfinite(trainer.model.parameters.data).all()


@pytest.mark.parametrize("key", AMBIGUOUS)
def test_an_option_of_several_parts_asks_for_a_name(key: str, registry: Registry) -> None:
    section = key.partition(".")[0]
    with pytest.raises(ConfigError) as caught:
        read_run(load([f"{key}=0.5"]), registry)
    assert str(caught.value).startswith(
        f"{section}.name: expected the part that {key} belongs to: {AMBIGUOUS[key]}; "
    )


# --------------------------------------------------------------------------- what follows what


def settled(registry: Registry, *settings: str) -> tuple[RunConfig, list[str]]:
    """Return the configuration as it is carried out, and what was said about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = read_run(load(list(settings)), registry).config
    return found, [str(warning.message) for warning in caught]


def test_the_last_rate_is_a_tenth_of_the_first(registry: Registry) -> None:
    for rate in ("1e-3", "5e-5"):
        config = load([f"training.learning_rate={rate}"])
        scheduler = build_trainer(config, registry=registry).scheduler
        assert scheduler.lr_at(10**6) == float(rate) * 0.1
    assert 1e-3 * 0.1 == 1e-4, "the default run is what it was when it said min_lr = 1e-4"


@pytest.mark.parametrize(
    ("weaker", "stronger", "left", "gone"),
    [
        ("training.max_steps=5", "training.epochs=2", "epochs", "max_steps"),
        ("scheduler.min_lr_ratio=0.5", "scheduler.min_lr=1e-5", "min_lr", "min_lr_ratio"),
        ("scheduler.min_lr=1e-5", "scheduler.min_lr_ratio=0.5", "min_lr_ratio", "min_lr"),
        ("training.use_mixed_precision=true", "training.precision=fp32", "precision", "use_mixed"),
        ("training.precision=fp32", "training.use_mixed_precision=true", "use_mixed", "precision"),
        ("training.resume=auto", "training.resume_from=a", "resume_from", "resume"),
        ("training.resume_from=a", "training.resume=auto", "resume", "resume_from"),
        ("tokenizer.path=a", "tokenizer.vocab_size=300", "vocab_size", "path"),
        ("tokenizer.vocab_size=300", "tokenizer.path=a", "path", "vocab_size"),
        ('data.sources=[{path="a"}]', "data.path=b", "path", "sources"),
        ("data.path=b", 'data.sources=[{path="a"}]', "sources", "path"),
    ],
)
def test_the_stronger_of_two_that_contradict_each_other_counts(
    weaker: str, stronger: str, left: str, gone: str
) -> None:
    """The weaker is in the environment, the stronger on the command line; never an error."""
    key, _, value = weaker.partition("=")
    section = key.partition(".")[0]
    variable = f"TISSLM_{key.upper().replace('.', '__')}"
    words = rf"{section}\.{left}\w* = .* counts: {section}\.{gone}\w* = .* left out$"
    with pytest.warns(ConfigNote, match=words):
        config = RunConfig.load(None, [stronger], {variable: value})
    assert stronger.partition("=")[0] in config.said
    assert key not in config.said


def test_both_of_one_source_are_refused(registry: Registry) -> None:
    config = load(["scheduler.min_lr=1e-5", "scheduler.min_lr_ratio=0.1"])
    with pytest.raises(ConfigError) as caught:
        build_trainer(config, registry=registry)
    assert str(caught.value) == (
        "scheduler warmup_cosine: min_lr: expected none beside min_lr_ratio = 0.1, got 1e-05; "
        "keep one of the two"
    )


@pytest.mark.parametrize(
    ("setting", "sizes", "notes"),
    [
        ("n_head=6", (6, 126), ["model.n_embd = 126 in place of the preset's 128"]),
        ("n_embd=50", (2, 50), ["model.n_head = 2 in place of the preset's 4"]),
        ("n_embd=192", (4, 192), []),
        (
            "n_kv_head=3",
            (3, 129),
            [
                "model.n_head = 3 in place of the preset's 4",
                "model.n_embd = 129 in place of the preset's 128",
            ],
        ),
    ],
)
def test_heads_and_channels_of_a_preset_follow_each_other(
    setting: str, sizes: tuple[int, int], notes: list[str], registry: Registry
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shape = read_run(load([f"model.{setting}"]), registry).shape
    assert (shape.n_head, shape.n_embd) == sizes
    said = [str(warning.message).removesuffix(", to fit what was given") for warning in caught]
    assert said == notes


def test_what_a_preset_says_of_vocabulary_and_frequencies_gives_way_without_a_note(
    registry: Registry,
) -> None:
    given = ["model.preset=llama-3.2-1b", "model.seq_len=128", "model.positions=none"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_run(load(given), registry)
    assert not [said for warning in caught if "preset's" in (said := str(warning.message))]


def test_sizes_that_were_asked_for_are_not_changed(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"^model\.n_embd: expected a multiple of n_head = 3, g"):
        read_run(load(["model.n_head=3", "model.n_embd=128"]), registry)


def test_a_short_text_is_trained_on_as_it_is(registry: Registry, files: dict[str, str]) -> None:
    config, notes = settled(registry, f"data.path={files['text']}", "model.seq_len=5000")
    assert (config.data.valid_fraction, config.model["seq_len"]) == (0.0, 5000)
    (said,) = notes
    assert said.startswith("data.valid_fraction = 0.1 left out, without validation: ")
    assert "expected at least 5001 tokens for one window of seq_len 5000 and its last tar" in said
    config, notes = settled(registry, f"data.path={files['tiny']}")
    assert (config.data.valid_fraction, config.model["seq_len"]) == (0.0, 49)
    assert notes[1] == "model.seq_len = 49 in place of 128: the text has 50 tokens"
    for asked in ("data.valid_fraction=0.1", "model.seq_len=64"):
        with pytest.raises(DataError, match="expected at least"):
            settled(registry, f"data.path={files['tiny']}", "model.seq_len=64", asked)


def test_an_option_names_its_part(registry: Registry) -> None:
    config, notes = settled(registry, "loss.smoothing=0.2")
    assert config.loss == ("label_smoothing", {"smoothing": 0.2})
    assert notes == [
        'loss.name = "label_smoothing" follows from loss.smoothing, in place of "cross_entropy"'
    ]
    config, _ = settled(registry, "scheduler.step_size=10")
    assert config.scheduler == ("step", {"step_size": 10}), "not the default part's options"
    with pytest.raises(ConfigError, match=r"^loss 'cross_entropy' has no option 'smoothing'"):
        build_trainer(load(["loss.name=cross_entropy", "loss.smoothing=0.2"]), registry=registry)


def test_a_dataset_without_text_has_the_tokenizer_of_bytes_unless_one_is_named() -> None:
    registry = load_registry()
    if "parquet" not in {part.entry.name for part in registry.entries("dataset")}:
        pytest.skip("needs tisslm-parquet")
    with pytest.raises(ConfigError, match=r"^dataset 'parquet' needs a value for 'path'"):
        settled(registry, "data.name=parquet")
    with pytest.raises(ConfigError, match=r"^tokenizer\.name: 'char' learns from a text, which"):
        settled(registry, "data.name=parquet", "tokenizer.name=char")
