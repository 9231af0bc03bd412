"""``tisslm export``: what it says, and its exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
