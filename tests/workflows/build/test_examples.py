"""The dataset "examples" of a run: its two halves, and a tokenizer that learns from one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tisslm.config import RunConfig
from tisslm.datasets.examples import ExampleDataset
from tisslm.errors import ConfigError
from tisslm.registry import load_registry
from tisslm.workflows.build.data import RunData, load_data, load_validation


def write(path: Path, n: int, **more: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    records = [{"anchor": f"word {i}", "positive": "b" * (i % 5 + 1)} | more for i in range(n)]
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def config(path: object, tokenizer: dict[str, Any] | None = None, **data: Any) -> RunConfig:
    return RunConfig.from_mapping(
        {
            "data": {"name": "examples", "path": str(path), **data},
            "tokenizer": tokenizer or {"name": "byte"},
        }
    )


def load(path: object, tokenizer: dict[str, Any] | None = None, **data: Any) -> RunData:
    return load_data(config(path, tokenizer, **data), 16, load_registry())


def test_a_part_is_held_out_and_eval_finds_it_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", 30)
    data = load(path, query_prompt="q ")
    assert isinstance(data.train, ExampleDataset)
    assert data.valid is not None
    assert (len(data.train), len(data.valid)) == (27, 3)
    assert data.train.seq_len == len("q word 29bbbbb")
    found = load_validation(config(path, query_prompt="q "), data.tokenizer, 16, load_registry())
    assert found is not None
    assert found.fingerprint() == data.valid.fingerprint()


def test_a_number_is_held_out_or_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", 30)
    valid = load(path, valid_examples=7, valid_fraction=0).valid
    assert valid is not None
    assert len(valid) == 7
    assert load(path, valid_fraction=0).valid is None


@pytest.mark.parametrize("name", ["valid.jsonl", "val.jsonl"])
def test_a_folder_has_both_parts(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data" / "train.jsonl", 9)
    write(tmp_path / "data" / name, 4)
    data = load(tmp_path / "data")
    assert data.valid is not None
    assert (len(data.train), len(data.valid)) == (9, 4)


def test_a_tokenizer_learns_from_what_is_not_held_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", 6)
    write(tmp_path / "b.jsonl", 3, negative="zzzz")
    char = {"name": "char"}
    data = load(path, char, valid_path=str(tmp_path / "b.jsonl"))
    assert data.tokenizer is not None
    assert data.tokenizer.encode("z")  # shown once, so that it can be read
    bpe = {"name": "bpe", "vocab_size": 300, "min_frequency": 2}
    data = load(path, bpe, valid_path=str(tmp_path / "b.jsonl"))
    assert data.tokenizer is not None
    assert len(data.tokenizer.encode("word")) < len(data.tokenizer.encode("zzzz"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"querry_prompt": "q"}, "has no option 'querry_prompt'.*Did you mean 'query_prompt'"),
        ({"held_out": True}, "^data.held_out: the run knows it; leave it out$"),
        ({"packing": "whole"}, "has no option 'packing'"),
    ],
)
def test_options_of_others_are_refused(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(write(tmp_path / "a.jsonl", 30), **data)


def test_a_run_without_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^data.path: not set; name a file of examples"):
        load("")
    with pytest.raises(ConfigError, match=r"^data.path: not set; name a file of prompts with two"):
        load("", name="preferences")


def test_both_parts_are_scored_or_neither(tmp_path: Path) -> None:
    pairs = write(tmp_path / "a.jsonl", 6)
    scored = tmp_path / "b.jsonl"
    scored.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"b.jsonl: expected examples without scores, as those"):
        load(pairs, valid_path=str(scored))
