"""Training by the tokenizer's name: it learns, goes on exactly, and needs no file to write text."""

from __future__ import annotations

from pathlib import Path

import pytest
from tisslm_tiktoken.tokenizer import TiktokenTokenizer

from tisslm import checkpoint
from tisslm.config import RunConfig
from tisslm.registry import load_registry
from tisslm.training.trainer import Trainer
from tisslm.workflows.build.trainer import build_trainer
from tisslm.workflows.load_model import load_model

pytestmark = pytest.mark.usefixtures("installed", "one_thread")


def trainer(folder: Path, run: str, **training: object) -> Trainer:
    values = {
        "data": {"path": str(folder / "text.txt")},
        "tokenizer": {
            "name": "tiktoken",
            "path": str(folder / "small.tiktoken"),
            "pattern": "gpt2",
            "special_tokens": ["<|endoftext|>"],
        },
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "seq_len": 16},
        "training": {
            "output_dir": str(folder / run),
            "max_steps": 8,
            "save_every": 4,
            "batch_size": 4,
            "learning_rate": 0.01,
            "validation_frequency": 0,
            **training,
        },
        "log": {"sinks": ["jsonl"]},
    }
    return build_trainer(RunConfig.from_mapping(values))


def test_the_plugin_is_found_by_its_entry_point() -> None:
    part = load_registry().part("tokenizer", "tiktoken")
    assert part.provider.distribution == "tisslm-tiktoken"
    assert part.load() is TiktokenTokenizer


def test_a_run_learns_goes_on_exactly_and_carries_its_tokenizer(
    tmp_path: Path, file: Path, text: str
) -> None:
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    whole = trainer(tmp_path, "whole")
    assert whole.model.vocab_size == 317
    whole.train()
    assert whole.loss_history[-1] < whole.loss_history[0] - 0.1

    half = tmp_path / "whole" / "checkpoints" / "checkpoint-4"
    resumed = trainer(tmp_path, "resumed", resume=str(half))
    assert resumed.current_step == 4
    resumed.train()
    assert resumed.model.parameters.data.tobytes() == whole.model.parameters.data.tobytes()

    file.unlink()
    _, tokenizer = load_model(half)
    assert isinstance(tokenizer, TiktokenTokenizer)
    assert tokenizer.encode(text) == whole.tokenizer.encode(text)
    assert checkpoint.read_tokenizer(checkpoint.read(half))["name"] == "tiktoken"
