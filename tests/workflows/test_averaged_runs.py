"""The average of a run's weights, loaded and handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm import Trainer, Transformer, TransformerConfig, load_model
from tisslm.config import RunConfig
from tisslm.errors import CheckpointError
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.build.trainer import build_trainer
from tisslm.workflows.export import export, write_folder

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "seq_len": 16, "vocab_size": 256}
X = np.arange(30).reshape(2, 15)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    model = Transformer(TransformerConfig(family="llama", **SHAPE), seed=2)
    write_folder(tmp_path / "base", model, ByteTokenizer())
    (tmp_path / "text.txt").write_text("What is averaged moves less than what is trained. " * 30)
    return tmp_path / "base"


def train(base: Path, **tables: Any) -> Trainer:
    config = {
        "model": {"from": str(base)},
        "data": {"path": str(base.parent / "text.txt")},
        "ema": {"decay": 0.7},
        "training": {
            "max_steps": 4, "batch_size": 4, "save_every": 0, "learning_rate": 1e-2,
            "validation_frequency": 0, "output_dir": str(base.parent / "run"),
        },
        "log": {"sinks": []},
        **tables,
    }  # fmt: skip
    trainer = build_trainer(RunConfig.from_mapping(config))
    trainer.train()
    return trainer


def test_a_run_records_it_and_an_export_has_it(base: Path) -> None:
    trainer = train(base, optimizer={"groups": [{"match": "embedding.*", "freeze": True}]})
    run, out = trainer.run.path, base.parent / "out"
    recorded = RunConfig.load(run / "config.resolved.toml", env={})
    assert recorded.ema is not None
    assert recorded.ema.decay == 0.7
    averaged, tokenizer = load_model(run, ema=True)
    assert tokenizer is not None
    trained, _ = load_model(run)
    with trainer.averaged():
        for p in trainer.model.parameters:
            same = np.array_equal(averaged.parameters[p.name].data, p.data)
            assert same, p.name
    frozen = "embedding.token.weight"
    assert np.array_equal(trained.parameters[frozen].data, averaged.parameters[frozen].data)
    expected = averaged.forward(X)[0]
    assert not np.array_equal(trained.forward(X)[0], expected)
    export(run, out, ema=True)
    assert np.array_equal(load_model(out)[0].forward(X)[0], expected)
    done = export(run, base.parent / "out.gguf", form="gguf", ema=True)
    assert np.allclose(load_model(done.path)[0].forward(X)[0], expected, atol=1e-5)
    with pytest.raises(CheckpointError) as caught:
        load_model(out, ema=True)
    assert str(caught.value) == (
        f"{out}: expected a run or checkpoint, which may have averaged weights, got a model of "
        "others; leave --ema out"
    )


def test_averaged_adapters_are_merged_and_handed_on(base: Path) -> None:
    trainer = train(base, adapter={"rank": 2, "targets": ["q", "v"], "alpha": 4.0})
    run = trainer.run.path
    with trainer.averaged():
        expected = trainer.model.forward(X)[0]
    merged = load_model(run, ema=True)[0].forward(X)[0]
    assert np.allclose(merged, expected, atol=1e-5)
    assert not np.allclose(load_model(run)[0].forward(X)[0], expected, atol=1e-5)
    export(run, base.parent / "alone", form="peft", ema=True)
    assert np.array_equal(load_model(base.parent / "alone")[0].forward(X)[0], merged)
    lora = export(run, base.parent / "a.gguf", form="gguf-lora", ema=True).path.read_bytes()
    assert lora != export(run, base.parent / "b.gguf", form="gguf-lora").path.read_bytes()
