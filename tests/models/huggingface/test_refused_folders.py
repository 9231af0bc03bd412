"""Folders that are no model, incomplete, or made to harm: a sentence each, and no memory taken."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from model_folders import model_of, save, write_config, write_shards, write_weights

from tisslm import Transformer
from tisslm.errors import CheckpointError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
AGAIN = "download or save the whole model again"
QUERY = "model.layers.1.self_attn.q_proj.weight"

MODEL = model_of("llama", n_kv_head=2)


def arrays() -> dict[str, np.ndarray]:
    exchange = MODEL.exchange()
    assert exchange is not None
    there = exchange.outward(MODEL.parameters.state())
    return {name: np.ascontiguousarray(there[name]) for name in there}


def refusal(folder: Path) -> str:
    """Return the message, which comes within 2 s of the processor and in 64 MiB."""
    tracemalloc.start()
    try:
        start = time.process_time()
        with pytest.raises(CheckpointError) as caught:
            Transformer.from_pretrained(folder)
        assert time.process_time() - start < 2
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    message = str(caught.value).replace(f"{folder}/", "").replace(f"{folder}", "FOLDER")
    assert "\n" not in message
    assert len(message) < 500
    return message


def changed(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    found = arrays()
    change(found)
    write_weights(folder / WEIGHTS, found)


def header(folder: Path, dtype: str) -> None:
    """Write a file of one array of a type that none of ours is."""
    text = json.dumps({QUERY: {"dtype": dtype, "shape": [8], "data_offsets": [0, 8]}}).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (
        lambda folder: (folder / CONFIG).unlink(),
        "FOLDER: expected config.json, which says what the weights are of, found none; download "
        "the whole model, or save it by save_pretrained of transformers",
    ),
    "no weights": (
        lambda folder: (folder / WEIGHTS).unlink(),
        "FOLDER: expected model.safetensors or model.safetensors.index.json, found neither; "
        "download the whole model again",
    ),
    "a pickle": (
        lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
        "FOLDER: expected model.safetensors, got 'pytorch_model.bin', a pickle, which can run any "
        "program when it is opened and is not read here; take the safetensors file of the model, "
        "or load it by transformers, if you trust it, and save it by save_pretrained",
    ),
    "an unknown architecture": (
        lambda folder: write_config(folder, {"model_type": "bert", "hidden_size": 3}),
        "config.json: model_type: expected an architecture out of gpt2, llama, mistral, qwen2, "
        "qwen3, gpt_neox, got 'bert'; give a model of one of these",
    ),
    "no JSON": (
        lambda folder: (folder / CONFIG).write_text("{'a': 1}"),
        "config.json: the model cannot be read (expected JSON: Expecting property name enclosed "
        f"in double quotes: line 1 column 2 (char 1)); {AGAIN}",
    ),
    "a deep configuration": (
        lambda folder: (folder / CONFIG).write_text('{"a":' + "[" * 1000),
        f"config.json: the model cannot be read (expected JSON of at most 16 levels, got more); "
        f"{AGAIN}",
    ),
    "a large configuration": (
        lambda folder: (folder / CONFIG).write_bytes(bytes(2**20 + 1)),
        "config.json: the model cannot be read (expected at most 1048576 bytes, got 1048577); "
        f"{AGAIN}",
    ),
    "a missing array": (
        lambda folder: changed(folder, lambda found: found.pop(QUERY)),
        f"FOLDER: expected an array {QUERY} of shape (32, 32), got none; {AGAIN}",
    ),
    "a surplus array": (
        lambda folder: changed(folder, lambda found: found.update({"score.weight": np.zeros(2)})),
        "FOLDER: expected the arrays of a llama model of 2 layers, got 'score.weight' besides; "
        "give it the configuration that it was saved with",
    ),
    "another shape": (
        lambda folder: changed(folder, lambda found: found.update({QUERY: np.zeros((4, 2))})),
        f"FOLDER: expected {QUERY} of shape (32, 32), by its configuration, got (4, 2); the two "
        "are of different models, download or save both again",
    ),
    "whole numbers of 8 bits": (
        lambda folder: changed(
            folder, lambda found: found.update({QUERY: np.zeros((32, 32), np.int8)})
        ),
        f"FOLDER: expected {QUERY} of float32, float16, bfloat16 or float64, got int8; save the "
        "model in one of these types",
    ),
    "float8": (
        lambda folder: header(folder, "F8_E4M3"),
        f"model.safetensors: the model cannot be read ('{QUERY}': expected a type of BOOL, F16, "
        f"F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BF16, got 'F8_E4M3'); {AGAIN}",
    ),
    "cut short": (
        lambda folder: os.truncate(folder / WEIGHTS, 5000),
        "model.safetensors: the model cannot be read (",
    ),
    "more layers than there are arrays": (
        lambda folder: write_config(
            folder, {**MODEL.exchange().config, "tisslm": None, "num_hidden_layers": 10_000}
        ),
        "FOLDER: expected an array model.layers.2.input_layernorm.weight of shape (32,), got none; "
        f"{AGAIN}",
    ),
    "a vocabulary that no memory holds": (
        lambda folder: write_config(
            folder, {**MODEL.exchange().config, "tisslm": None, "vocab_size": 2**31 - 1}
        ),
        "FOLDER: expected model.embed_tokens.weight of shape (2147483647, 32), by its "
        "configuration, got (11, 32); the two are of different models, download or save both again",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_whole_model_is_refused_in_a_sentence(tmp_path, case):
    save(MODEL, tmp_path)
    break_, message = CASES[case]
    break_(tmp_path)
    found = refusal(tmp_path)
    assert found == message if message[-1] != "(" else found.startswith(message)


def test_whole_numbers_of_16_bits_are_not_taken_for_bfloat16(tmp_path):
    save(MODEL, tmp_path)
    text = (tmp_path / WEIGHTS).read_bytes()
    changed(
        tmp_path, lambda found: found.update({n: a.astype(np.uint16) for n, a in found.items()})
    )
    text = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(text.replace(b'"BF16"', b'"U16" '))
    assert refusal(tmp_path).endswith("expected weights, got whole numbers of 16 bits); " + AGAIN)


def test_a_shard_that_is_missing_or_outside_is_refused(tmp_path):
    save(MODEL, tmp_path)
    (tmp_path / WEIGHTS).unlink()
    write_shards(tmp_path, arrays())
    index = tmp_path / "model.safetensors.index.json"
    (tmp_path / "model-00002-of-00003.safetensors").rename(tmp_path.parent / "x.safetensors")
    assert refusal(tmp_path) == (
        "model-00002-of-00003.safetensors: the model cannot be read (No such file or directory); "
        + AGAIN
    )
    index.write_text(index.read_text().replace("model-00002-of-00003", "../x"))
    assert refusal(tmp_path).startswith(
        "model.safetensors.index.json: the model cannot be read (weight_map: "
        "'model.embed_tokens.weight': expected the name of a safetensors file beside it, got "
        "'../x.safetensors'); "
    )


def test_a_file_as_large_as_no_memory_is_refused_before_it_is_read(tmp_path):
    save(MODEL, tmp_path)
    rows = 2**31 - 1
    shape = {"shape": [rows, 32], "data_offsets": [0, rows * 32 * 8], "dtype": "F64"}
    text = json.dumps({"model.embed_tokens.weight": shape}).encode()
    with (tmp_path / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + rows * 32 * 8)
    assert refusal(tmp_path) == (
        "FOLDER: the model cannot be read (expected weights, got a file that is larger than memory "
        f"and empty); {AGAIN}"
    )


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    rest = "expected the folder of a model, with config.json and model.safetensors, got"
    assert refusal(tmp_path / "file") == f"FOLDER: {rest} a file; give the folder"
    assert refusal(tmp_path / "none") == f"FOLDER: {rest} none; give the folder"
    os.mkfifo(tmp_path / CONFIG)
    assert "expected a regular file, got a FIFO" in refusal(tmp_path)
    assert "File name too long" in refusal(tmp_path / ("a" * 300))
