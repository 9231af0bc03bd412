"""A trained model in the files of others, and what is refused before anything is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from gguf_models import model_of

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.gguf import read_gguf
from tisslm.system.durable import DISK
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer
from tisslm.workflows.export import export, write_folder
from tisslm.workflows.load_model import load_model

SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 32, "seq_len": 16, "vocab_size": 256}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    tokens = np.random.default_rng(1).integers(0, 256, 400).astype(np.uint8)
    trainer = Trainer(
        Transformer(TransformerConfig(family="llama", **SHAPE)),
        dataset=TokenDataset(tokens, 16, vocab_size=256),
        tokenizer=ByteTokenizer(),
        config=TrainingConfig(
            batch_size=2, max_steps=2, output_dir=str(folder), validation_frequency=0
        ),
        sinks=(),
    )
    trainer.train()
    return trainer.run.path


def check(loaded: Transformer, run: Path, dtype: str) -> None:
    model, _ = load_model(run)
    for p in model.parameters:
        expected = p.data
        if dtype == "fp16":
            expected = p.data.astype(np.float16).astype(np.float32)
        elif dtype == "bf16":
            rounded = np.empty((1, p.size), np.uint16)
            ops.narrow(p.data.reshape(1, -1), rounded)
            expected = ops.widen(rounded).reshape(p.shape)
        assert np.array_equal(loaded.parameters[p.name].data, expected)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_folder_has_the_model_and_its_tokenizer(tmp_path: Path, run: Path, dtype: str) -> None:
    done = export(run, tmp_path / "out", dtype=dtype)
    assert done.notes == []
    files = list((tmp_path / "out").iterdir())
    assert done.nbytes == sum(file.stat().st_size for file in files)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    word = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[dtype]
    assert (config["model_type"], config["dtype"]) == ("llama", word)
    check(Transformer.from_pretrained(tmp_path / "out"), run, dtype)
    tokenizer = BpeTokenizer.from_folder(tmp_path / "out")
    assert tokenizer.encode("é") == list("é".encode())


def test_a_gguf_file_has_them_too(tmp_path: Path, run: Path) -> None:
    done = export(run, tmp_path / "m.gguf", form="gguf")
    assert (done.notes, done.nbytes) == ([], (tmp_path / "m.gguf").stat().st_size)
    check(Transformer.from_pretrained(tmp_path / "m.gguf"), run, "fp32")
    state = read_gguf(tmp_path / "m.gguf").tokenizer
    assert state is not None
    assert BpeTokenizer.from_state(state).encode("é") == list("é".encode())


def test_what_does_not_go_together_is_refused(tmp_path: Path, run: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"or peft or gguf-lora, got 'ggfu'\..*gguf"):
        export(run, out, form="ggfu")
    with pytest.raises(ConfigError, match=r"for --format hf, got 'q8_0'; q8_0 is a type of .*gguf"):
        export(run, out, dtype="q8_0")
    with pytest.raises(ConfigError, match=r"--dtype: expected one of fp32, .*, got 'fp8'$"):
        export(run, out, dtype="fp8")
    with pytest.raises(ConfigError, match=r"none/out: expected a path in a folder that is there"):
        export(run, tmp_path / "none" / "out")
    with pytest.raises(CheckpointError, match=r"nowhere: no such"):
        export(tmp_path / "nowhere", out)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_replaced_only_if_asked_and_an_export(
    tmp_path: Path, run: Path
) -> None:
    folder, file = tmp_path / "folder", tmp_path / "m.gguf"
    export(run, folder)
    export(run, file, form="gguf")
    for out, form in ((folder, "hf"), (file, "gguf")):
        with pytest.raises(ConfigError, match=r"it exists; choose another --output, or .* --force"):
            export(run, out, form=form)
        export(run, out, form=form, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "m.gguf"}
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"got 'notes.txt' there, which would be lost"):
        export(run, folder, force=True)
    with pytest.raises(ConfigError, match="got 'a file or a link' there"):
        export(run, file, force=True)
    with pytest.raises(ConfigError, match="expected a file to replace"):
        export(run, folder, form="gguf", force=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_disk_that_fails_leaves_what_was_there(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    export(run, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(DISK, "sync_directory", full)
    with pytest.raises(CheckpointError, match=r"could not be written \(No space left on device\)"):
        export(run, folder, dtype="bf16", force=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("case", ["gpt2", "llama tied", "qwen3", "gpt_neox"])
def test_factors_of_mup_are_in_the_weights_of_a_folder(tmp_path: Path, case: str) -> None:
    model = model_of(case, mup_base_width=8, mup_base_head_dim=5)
    assert model.exchange() is None  # our checkpoints keep them apart, and are exact
    write_folder(tmp_path / "out", model, None)
    found = Transformer.from_pretrained(tmp_path / "out")
    assert not found.config.mup_base_width
    x = np.arange(40, dtype=np.int32)[None]
    expected = model.forward(x)[0]
    assert np.abs(found.forward(x)[0] - expected).max() < 1e-5 * np.abs(expected).max()
    base = model_of(case, mup_base_width=32)  # which multiplies nothing
    write_folder(tmp_path / "base", base, None)
    again = Transformer.from_pretrained(tmp_path / "base")
    assert again.config == base.config
    assert np.array_equal(again.forward(x)[0], base.forward(x)[0])


def test_a_model_that_has_no_class_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a model that Hugging Face transformers has a"):
        write_folder(tmp_path / "out", model_of("llama", logit_cap=9.0), None)
    assert list(tmp_path.iterdir()) == []


def test_a_weight_that_float16_cannot_hold_is_named(tmp_path: Path) -> None:
    model = model_of("llama")
    model.parameters["blocks.1.mlp.down.weight"].data[0, 0] = 7e4
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.down_proj\.weight has a number"):
        write_folder(tmp_path / "out", model, None, "fp16")
    assert list(tmp_path.iterdir()) == []
