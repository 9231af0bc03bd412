"""Folders of models: what was written is read to the bit, and what does not fit is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import model_of, narrowed, save, write_config, write_shards, write_weights

from tisslm import Transformer
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.huggingface.folder import read_folder
from tisslm.ops.reference.storage import widen

CASES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2 no bias": {"bias": False},
    "gpt2 untied": {"tie_embeddings": False, "activation": "gelu_tanh", "dropout": 0.1},
    "llama": {"n_kv_head": 2, "dropout": 0.1},
    "llama tied": {"tie_embeddings": True, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "mistral": {"window": 5},
    "qwen2": {"n_kv_head": 2, "window": 3, "layer_types": ["sliding_attention", "full_attention"]},
    "qwen2 no bias": {"qkv_bias": False},
    "qwen3": {"head_dim": 16},
    "gpt_neox": {},
    "gpt_neox no bias": {"bias": False, "parallel_residual": False},
}


def case(name: str) -> Transformer:
    return model_of(name.split()[0], **CASES[name])


def same(found: Transformer, expected: dict[str, Any]) -> None:
    assert {p.name for p in found.parameters} == set(expected)
    for parameter in found.parameters:
        assert parameter.data.tobytes() == expected[parameter.name].tobytes(), parameter.name


def refusal(folder: Path, **overrides: Any) -> str:
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        Transformer.from_pretrained(folder, **overrides)
    return str(caught.value).replace(f"{folder}/", "").replace(f"{folder}", "FOLDER")


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_read_to_the_bit(tmp_path, name):
    model = case(name)
    found = Transformer.from_pretrained(save(model, tmp_path))
    assert found.config == model.config
    same(found, model.parameters.state())


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_same_without_our_own_settings(tmp_path, name):
    model = case(name)
    found = Transformer.from_pretrained(save(model, tmp_path, own=False), dropout=0.0)
    x = np.arange(24, dtype=np.int32).reshape(2, 12) % 11
    np.testing.assert_array_equal(found.forward(x)[0], model.forward(x)[0])


@pytest.mark.parametrize("dtype", ["float16", "uint16", "float64"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_other_types_are_widened_exactly(tmp_path, name, dtype):
    model = case(name)
    found = Transformer.from_pretrained(save(model, tmp_path, dtype=dtype))
    rounded = narrowed(model.parameters.state(), dtype)
    same(found, {name: widen(array).astype(np.float32) for name, array in rounded.items()})


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_several_files_are_read_as_one(tmp_path, name):
    model = case(name)
    save(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    arrays = model.exchange().outward(model.parameters.state())
    write_shards(tmp_path, dict(arrays))
    same(Transformer.from_pretrained(tmp_path), model.parameters.state())


def test_a_cache_of_links_is_read(tmp_path):
    model = case("llama")
    blobs, snapshot = save(model, tmp_path / "blobs"), tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(os.path.relpath(path, snapshot))
    same(Transformer.from_pretrained(snapshot), model.parameters.state())
    write_shards(blobs, dict(model.exchange().outward(model.parameters.state())))
    (snapshot / "model.safetensors").unlink()
    for path in blobs.glob("model-*"):
        (snapshot / path.name).symlink_to(path)
    (snapshot / "model.safetensors.index.json").symlink_to(blobs / "model.safetensors.index.json")
    same(Transformer.from_pretrained(str(snapshot)), model.parameters.state())


@pytest.mark.parametrize("dtype", ["uint16", "float16"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "gpt_neox no bias"])
def test_a_file_of_two_bytes_is_written_again_to_the_byte(tmp_path, name, dtype):
    first = save(case(name), tmp_path / "first", dtype=dtype)
    again = save(Transformer.from_pretrained(first), tmp_path / "again", dtype=dtype)
    for file in ("model.safetensors", "config.json"):
        assert (again / file).read_bytes() == (first / file).read_bytes()


# --------------------------------------------------------------------------- our own settings


def changed_config(folder: Path, **keys: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    write_config(folder, {**content, **keys})


def test_the_rest_holds_where_it_was_changed_since(tmp_path):
    model = case("llama")
    save(model, tmp_path)
    changed_config(tmp_path, rms_norm_eps=1e-3)
    found = Transformer.from_pretrained(tmp_path, dropout=0.0)
    assert (found.config.norm_eps, found.config.dropout) == (1e-3, 0.0)
    changed_config(tmp_path, rms_norm_eps=1e-5, tisslm={"family": "llama", "n_layer": "two"})
    assert Transformer.from_pretrained(tmp_path, dropout=0.0).config.norm_eps == 1e-5


def test_biases_that_somebody_has_trained_since_are_kept(tmp_path):
    model = case("gpt2 no bias")
    save(model, tmp_path)
    arrays = dict(model.exchange().outward(model.parameters.state()))
    arrays["transformer.ln_f.bias"] = np.ones(32, np.float32)
    write_weights(tmp_path / "model.safetensors", arrays)
    found = Transformer.from_pretrained(tmp_path)
    assert found.config.norm_bias
    assert (found.parameters["final_norm.bias"].data == 1).all()


# --------------------------------------------------------------------------- overrides


def test_rows_may_be_shorter_and_with_rotary_positions_longer(tmp_path):
    gpt2, llama = case("gpt2"), case("llama")
    save(gpt2, tmp_path / "gpt2")
    save(llama, tmp_path / "llama")
    short = Transformer.from_pretrained(tmp_path / "gpt2", seq_len=5, dropout=0.25)
    assert (short.seq_len, short.config.dropout) == (5, 0.25)
    table = gpt2.parameters["embedding.position.weight"].data[:5]
    np.testing.assert_array_equal(short.parameters["embedding.position.weight"].data, table)
    x = np.arange(5, dtype=np.int32)[None]
    np.testing.assert_array_equal(short.forward(x)[0], gpt2.forward(x)[0])
    assert Transformer.from_pretrained(tmp_path / "llama", seq_len=40).seq_len == 40
    assert refusal(tmp_path / "gpt2", seq_len=13) == (
        "model.seq_len: expected at most 12, beyond which FOLDER has no learned positions, got 13"
    )
    assert refusal(tmp_path / "llama", n_layer=1) == (
        "model.n_layer: expected what FOLDER has, since its weights are of that shape; leave it "
        "out, only seq_len and dropout can be others"
    )
    assert refusal(tmp_path / "llama", dropout=2.0).startswith("model.dropout: expected")


def test_a_stretched_model_keeps_its_positions_in_shorter_rows(tmp_path):
    yarn = {"rope_type": "yarn", "factor": 4.0}
    model = model_of("llama", rope_scaling=yarn)
    found = Transformer.from_pretrained(save(model, tmp_path), seq_len=6)
    x = np.arange(6, dtype=np.int32)[None]
    np.testing.assert_array_equal(found.forward(x)[0], model.forward(x)[0])


def test_reading_leaves_a_pinned_length(tmp_path):
    model = model_of("llama", rope_scaling={"rope_type": "yarn", "factor": 4.0})
    published = read_folder(save(model, tmp_path, own=False))
    assert published.settings["rope_scaling"]["original_max_position_embeddings"] == 12
