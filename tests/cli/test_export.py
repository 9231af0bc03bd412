"""``tisslm export``: what it says, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tisslm import Transformer

if TYPE_CHECKING:
    from conftest import Cli


def test_a_run_becomes_a_folder(cli: Cli, trained: Path, folder: Path) -> None:
    result = cli("export", "run", "--output", "out")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("hf: out (")
    assert Transformer.from_pretrained(folder / "out").vocab_size > 10


def test_a_run_becomes_a_gguf_file_and_notes_go_to_stderr(
    train: Cli, cli: Cli, folder: Path
) -> None:
    assert train("training.output_dir=run", "tokenizer.name=byte").code == 0
    result = cli("export", "run", "-o", "m.gguf", "--format", "gguf", "--dtype", "fp16")
    assert result.code == 0
    assert result.out.startswith("gguf: m.gguf (")
    assert result.err.startswith("note: the model computes GELU exactly, llama.cpp its")
    assert Transformer.from_pretrained(folder / "m.gguf").vocab_size == 256


def test_what_cannot_be_is_an_error_in_one_line(cli: Cli, trained: Path) -> None:
    result = cli("export", "run", "-o", "m.gguf", "--format", "gguf")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith(
        "error: GGUF: expected a tokenizer of byte pairs or bytes, got Cha"
    )
    assert result.err.count("\n") == 1
    result = cli("export", "run", "-o", "run")
    assert (result.code, result.out) == (3, "")
    assert result.err == (
        "error: run: it exists; choose another --output, or replace it with --force\n"
    )


def test_the_average_of_the_weights_is_an_option(train: Cli, cli: Cli, folder: Path) -> None:
    how = ("training.output_dir=run", "ema.decay=0.5", "training.validation_frequency=3")
    assert train(*how).code == 0
    summary = json.loads((folder / "run" / "summary.json").read_text())
    found = json.loads(cli("eval", "run", "--ema", "--json").out)
    assert found["loss"] == summary["eval_ema_loss"] != summary["eval_loss"]
    for option in ((), ("--ema",)):
        assert cli("export", "run", "-o", f"out{len(option)}", *option).code == 0
    plain, averaged = (Transformer.from_pretrained(folder / f"out{i}") for i in (0, 1))
    assert not np.array_equal(plain.parameters.data, averaged.parameters.data)
    texts = [cli("generate", "run", "-p", "1", "--seed", "1", *o).out for o in ((), ("--ema",))]
    assert texts[0] != texts[1]


def test_a_run_without_an_average_says_so(cli: Cli, trained: Path) -> None:
    result = cli("generate", "run", "--ema")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(
        "error: run/checkpoints/checkpoint-6: expected averaged weights (ema.safetensors), got none"
    )
