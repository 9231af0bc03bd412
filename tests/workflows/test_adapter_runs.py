"""Runs that train adapters: what their checkpoints have, and that they go on to the bit."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig, load_model
from tisslm.config import AdapterConfig, ConfigNote, RunConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.tuning.tuning import Tuning
from tisslm.system.gguf_files import GgufFile
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.build.trainer import build_trainer
from tisslm.workflows.export import export, write_folder

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "seq_len": 16, "vocab_size": 256}
FILES = ("adapter_model.safetensors", "optimizer.safetensors", "trainer.safetensors")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    model = Transformer(TransformerConfig(family="llama", **SHAPE), seed=2)
    write_folder(tmp_path / "base", model, ByteTokenizer())
    (tmp_path / "text.txt").write_text("A base stays as it is, and what is beside it learns. " * 30)
    return tmp_path / "base"


def tables(base: Path, folder: str = "run", **training: Any) -> dict[str, Any]:
    return {
        "model": {"from": str(base)},
        "data": {"path": str(base.parent / "text.txt")},
        "adapter": {"rank": 2, "targets": ["q", "v", "up"], "dropout": 0.1, "alpha": 4.0},
        "training": {
            "max_steps": 8, "batch_size": 4, "save_every": 4, "learning_rate": 1e-2,
            "validation_frequency": 0, "output_dir": str(base.parent / folder), **training,
        },
        "log": {"sinks": []},
    }  # fmt: skip


def train(base: Path, folder: str = "run", **training: Any) -> Path:
    trainer = build_trainer(RunConfig.from_mapping(tables(base, folder, **training)))
    trainer.train()
    return Path(trainer.run.path)


def digests(checkpoint: Path) -> list[str]:
    return [hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in FILES]


@pytest.mark.parametrize("frozen_precision", ["fp32", "bf16"])
def test_a_run_goes_on_to_the_bit(base: Path, frozen_precision: str) -> None:
    how = {"frozen_precision": frozen_precision, "precision": "bf16", "async_save": True}
    whole = train(base, "whole", **how) / "checkpoints"
    saved = sorted(path.name for path in (whole / "checkpoint-8").iterdir())
    assert "model.safetensors" not in saved
    assert {"adapter_model.safetensors", "adapter_config.json", "base.json"} < set(saved)
    size = (whole / "checkpoint-8" / "adapter_model.safetensors").stat().st_size
    assert size < 0.2 * (base / "model.safetensors").stat().st_size
    shutil.copytree(whole.parent, base.parent / "again")
    shutil.rmtree(base.parent / "again" / "checkpoints" / "checkpoint-8")
    again = train(base, "again", resume="auto", **how) / "checkpoints"
    assert digests(again / "checkpoint-8") == digests(whole / "checkpoint-8")


def test_a_killed_run_goes_on_to_the_bit(base: Path) -> None:
    settings = tables(base, "killed", max_steps=300, save_every=5, keep_checkpoints=0)
    lines = [f"[{name}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in table.items())
             for name, table in settings.items()]  # fmt: skip
    config = base.parent / "run.toml"
    config.write_text("\n".join(lines))
    command = [sys.executable, "-m", "tisslm", "train", str(config)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    place = base.parent / "killed" / "checkpoints"
    while not list(place.glob("checkpoint-*5")):
        assert run.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    with pytest.warns(RuntimeWarning, match="taken over"):
        train(base, "killed", max_steps=300, save_every=5, keep_checkpoints=0, resume="auto")
    train(base, "whole", max_steps=300, save_every=0)
    whole = base.parent / "whole" / "checkpoints" / "checkpoint-300"
    assert digests(place / "checkpoint-300") == digests(whole)


def test_commands_see_the_adapters_merged(base: Path) -> None:
    run = train(base)
    merged, tokenizer = load_model(run)
    assert isinstance(merged, Transformer)
    assert merged.tuning == Tuning()
    assert tokenizer is not None
    x = np.arange(30).reshape(2, 15)
    trainer = build_trainer(RunConfig.from_mapping(tables(base, "run", resume="auto")))
    expected = trainer.model.forward(x)[0]
    largest = abs(expected).max()
    assert abs(merged.forward(x)[0] - expected).max() < 1e-5 * largest
    plain, _ = load_model(base)
    assert abs(plain.forward(x)[0] - expected).max() > 0.01 * largest
    export(run, base.parent / "merged")
    assert np.array_equal(load_model(base.parent / "merged")[0].forward(x)[0], merged.forward(x)[0])
    export(run, base.parent / "alone", form="peft")
    assert np.array_equal(load_model(base.parent / "alone")[0].forward(x)[0], merged.forward(x)[0])
    done = export(run, base.parent / "alone.gguf", form="gguf-lora")
    assert GgufFile(done.path).metadata["adapter.lora.alpha"] == 4.0
    # what is trained beside it next begins from both
    more = RunConfig.from_mapping({**tables(base, "more"), "model": {"from": str(run)}})
    with pytest.warns(ConfigNote, match=r"are for .*checkpoint-8, which its own run may delete"):
        again = build_trainer(more).model
    assert np.allclose(again.forward(x)[0], expected, atol=1e-5 * largest)


def test_a_changed_base_is_refused(base: Path) -> None:
    run = train(base)
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    words = r"its adapters are for another model: expected model.safetensors of SHA-256 \w{12}..."
    with pytest.raises(CheckpointError, match=words):
        load_model(run)
    with pytest.raises(CheckpointError, match=words):
        train(base, resume="auto")
    shutil.rmtree(base)
    with pytest.raises(CheckpointError, match="base, which is not there; put it back"):
        load_model(run)


def test_a_base_that_has_newer_checkpoints_is_named(base: Path) -> None:
    """A run directory stands for its newest checkpoint, which is another one later."""

    def run(folder: str, origin: Path, steps: int, resume: str = "") -> int:
        how = {"max_steps": steps, "save_every": 0, "keep_checkpoints": 0, "resume": resume}
        parts = {"model": {"from": str(origin)}, "scheduler": {"name": "constant"}}
        trainer = build_trainer(RunConfig.from_mapping({**tables(base, folder, **how), **parts}))
        trainer.train()
        return trainer.current_step

    first = base.parent / "first"
    run("first", base, 2)
    with pytest.warns(ConfigNote, match="its own run may delete"):
        run("more", first, 2)
    run("first", base, 3, "auto")
    place = first / "checkpoints" / "checkpoint-2"
    with pytest.raises(CheckpointError, match=f"were trained for, which was {place}$"):
        run("more", first, 4, "auto")
    assert run("more", place, 4, "auto") == 4


@pytest.mark.parametrize("form", ["hf", "peft"])
def test_the_model_beside_is_not_exported_over(base: Path, form: str) -> None:
    run = train(base, max_steps=2)
    before = (base / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="than that of the model that the adapters are beside"):
        export(run, base, form=form, force=True)
    assert (base / "model.safetensors").read_bytes() == before
    export(run, base.parent / "merged", form=form)
    export(run, base.parent / "merged", form=form, force=True)
    assert isinstance(load_model(run)[0], Transformer)


def test_other_adapters_are_refused(base: Path) -> None:
    run = train(base)
    other = tables(base, "other", resume=str(run))
    other["adapter"]["rank"] = 3
    with pytest.raises(CheckpointError, match=r"made with adapter.rank = 2, this run has 3"):
        build_trainer(RunConfig.from_mapping(other))
    del other["adapter"]
    with pytest.raises(CheckpointError, match="it has adapters alone; give the run an"):
        build_trainer(RunConfig.from_mapping(other))
    other = tables(base, "other")
    other["model"] = {key: value for key, value in SHAPE.items() if key != "vocab_size"}
    other["tokenizer"] = {"name": "byte"}
    with pytest.raises(ConfigError, match=r"\[adapter\]: expected a model to adapt, as model.from"):
        build_trainer(RunConfig.from_mapping(other))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("peft_type", "IA3", "peft_type: expected \"LORA\", got 'IA3'"),
        ("use_dora", True, "use_dora: expected False, since adapters have no more than A and B"),
        ("r", 5, "of shape (5, 16), by its configuration and its base, got (2, 16)"),
        ("base_model_name_or_path", "org/name", "expected the path of a model on this machine"),
        ("base_model_name_or_path", "alone", "expected a whole model, got adapters in"),
        ("r", 10**9, "adapter_config.json: adapter.rank: expected at most 16, the smaller side"),
    ],
)
def test_what_of_peft_is_refused(
    base: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, words: str
) -> None:
    monkeypatch.chdir(base.parent)
    export(train(base), base.parent / "alone", form="peft")
    path = base.parent / "alone" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError) as caught:
        load_model(base.parent / "alone")
    assert words in str(caught.value)


def test_parts_of_a_module_of_theirs_stay_ours(tmp_path: Path) -> None:
    """GPT-2 has one module for q, k and v there, so PEFT has no adapter of q alone."""
    model = Transformer(TransformerConfig(**SHAPE))
    write_folder(tmp_path / "base", model, ByteTokenizer())
    (tmp_path / "text.txt").write_text("Of q and v alone. " * 60)
    run = train(tmp_path / "base", max_steps=2)
    saved = run / "checkpoints" / "checkpoint-2"
    assert not (saved / "adapter_config.json").exists()
    assert isinstance(load_model(run)[0], Transformer)
    with pytest.raises(ConfigError, match=r'train with adapter.targets = \["qkv"\]'):
        export(run, tmp_path / "alone", form="peft")
    with pytest.raises(ConfigError, match="expected the checkpoint of a run that trained adapters"):
        export(_whole_run(tmp_path), tmp_path / "alone", form="peft")


def _whole_run(tmp_path: Path) -> Path:
    settings = tables(tmp_path / "base", "plain", max_steps=1)
    del settings["adapter"]
    trainer = build_trainer(RunConfig.from_mapping(settings))
    trainer.train()
    return Path(trainer.run.path)


def test_adapters_from_python_have_their_base_too(base: Path) -> None:
    adapter = AdapterConfig(rank=2)
    model = Transformer.from_pretrained(base, tuning=Tuning(adapter=adapter))
    assert model.base is not None
    assert set(model.base.files) == {"config.json", "model.safetensors"}
    exchange = model.adapters()
    assert exchange is not None
    assert exchange.config is not None
    assert exchange.config["base_model_name_or_path"] == str(base)


def test_adapters_beside_factors_of_mup_stay_ours_and_go_out_merged(tmp_path: Path) -> None:
    first = tables(tmp_path / "base", "first")
    sizes = {key: size for key, size in SHAPE.items() if key != "vocab_size"}
    first["model"] = {"family": "llama", **sizes, "mup_base_width": 8}
    first["tokenizer"] = {"name": "byte"}
    del first["adapter"]
    (tmp_path / "text.txt").write_text("A base stays as it is, and what is beside it learns. " * 30)
    with pytest.warns(ConfigNote, match="is taken to have 2 heads"):
        trainer = build_trainer(RunConfig.from_mapping(first))
    trainer.train()
    with pytest.warns(ConfigNote, match="its own run may delete"):
        run = train(tmp_path / "first")
    saved = {path.name for path in (run / "checkpoints/checkpoint-8").iterdir()}
    assert "adapter_model.safetensors" in saved
    assert "adapter_config.json" not in saved
    for form in ("peft", "gguf-lora"):
        with pytest.raises(ConfigError, match=r"adapters of a model without muP's factors"):
            export(run, tmp_path / "alone", form=form)
    export(run, tmp_path / "merged")
    model, _ = load_model(run)
    x = np.arange(16, dtype=np.int32)[None]
    expected = model.forward(x)[0]
    found = Transformer.from_pretrained(tmp_path / "merged").forward(x)[0]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
