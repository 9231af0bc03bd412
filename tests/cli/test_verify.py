"""``tisslm verify``: what it says of whole and of damaged checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tisslm import checkpoint

if TYPE_CHECKING:
    from conftest import Cli


@pytest.fixture
def run(trained: Path) -> Path:
    return trained


def test_a_whole_run(cli: Cli, run: Path) -> None:
    result = cli("verify", "run")
    assert (result.code, result.err) == (0, "")
    heading, row = result.out.splitlines()
    assert heading.split() == ["checkpoint", "files", "size", "state"]
    assert row.split()[:2] == ["run/checkpoints/checkpoint-6", "9"]
    assert row.split()[-1] == "ok"
    for path in ("run/checkpoints", "run/checkpoints/checkpoint-6"):
        assert cli("verify", path).out == result.out


def test_a_damaged_file_is_named_and_ends_with_code_1(cli: Cli, run: Path) -> None:
    path = run / "checkpoints/checkpoint-6/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (run / "checkpoints/checkpoint-6/config.json").unlink()
    (run / "checkpoints/checkpoint-2").mkdir()
    result = cli("verify", "run", "--json")
    assert (result.code, result.err) == (1, "")
    bare, damaged = json.loads(result.out)
    assert bare == {
        "checkpoint": "run/checkpoints/checkpoint-2",
        "step": None,
        "files": None,
        "bytes": None,
        "ok": False,
        "problems": [{"file": "manifest.json", "expected": "a manifest", "got": "none"}],
        "not_in_manifest": [],
    }
    assert (damaged["step"], damaged["files"], damaged["ok"]) == (6, 9, False)
    config, model = damaged["problems"]
    assert (config["file"], config["got"]) == ("config.json", "none")
    assert model["file"] == "model.safetensors"
    assert model["expected"].startswith("SHA-256 ")
    table = cli("verify", "run")
    assert table.code == 1
    assert "config.json: expected a file of" in " ".join(table.out.split())


def test_a_file_that_the_manifest_lacks_is_named_and_no_damage(cli: Cli, run: Path) -> None:
    (run / "checkpoints/checkpoint-6/notes.txt").write_text("mine")
    result = cli("verify", "run")
    assert (result.code, result.err) == (0, "")
    words = " ".join(result.out.split())
    assert words.endswith(" ok 'notes.txt' is not in the manifest")
    (row,) = json.loads(cli("verify", "run", "--json").out)
    assert (row["ok"], row["problems"], row["not_in_manifest"]) == (True, [], ["notes.txt"])
    assert cli("generate", "run", "--max-new-tokens", "1").code == 0


def test_a_path_without_a_checkpoint(cli: Cli, folder: Path) -> None:
    result = cli("verify", "nowhere")
    assert (result.code, result.err) == (
        1,
        "error: nowhere: no such checkpoint; give a directory checkpoint-N, or a run directory "
        "that contains one, or a folder of token shards\n",
    )


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_token_shards(cli: Cli, folder: Path, flag: tuple[str, ...]) -> None:
    assert cli("tokenize", "text.txt", "--out", "s").code == 0
    result = cli("verify", "s", *flag)
    assert (result.code, result.err) == (0, "")
    path = folder / "s" / "train-00000.bin"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = cli("verify", "s", *flag)
    assert (result.code, result.err) == (1, "")
    if flag:
        (row,) = json.loads(result.out)
        assert (row["shards"], row["files"], row["ok"]) == ("s", 3, False)
        got = "its SHA-256 differs from the manifest's"
        (problem,) = row["problems"]
        assert (problem["file"], problem["got"]) == (path.name, got)
        assert problem["expected"].startswith(f"{len(content)} bytes of SHA-256 ")
    else:
        assert result.out.splitlines()[0].split() == ["shards", "files", "size", "state"]
        words = " ".join(result.out.split())
        assert "train-00000.bin: its SHA-256 differs from the manifest's" in words


def test_a_file_is_no_checkpoint(cli: Cli, folder: Path) -> None:
    result = cli("verify", "text.txt")
    assert (result.code, result.err) == (
        1,
        "error: text.txt: is a file, and a checkpoint is a directory; give a directory "
        "checkpoint-N, or a run directory that contains one, or a folder of token shards\n",
    )


def test_the_best_of_a_run(cli: Cli, train: Cli) -> None:
    result = train(
        "training.output_dir=run", "training.save_every=2", "training.validation_frequency=2"
    )
    assert result.code == 0
    best = checkpoint.best("run")
    result = cli("verify", "run/best", "--json")
    (row,) = json.loads(result.out)
    assert (result.code, result.err, row["checkpoint"], row["ok"]) == (0, "", str(best), True)
    (best / "model.safetensors").write_bytes(b"damaged")
    result = cli("verify", "run/best", "--json")  # and not the best of those that are whole
    (row,) = json.loads(result.out)
    assert (result.code, row["checkpoint"], row["ok"]) == (1, str(best), False)


def test_a_run_without_a_best(cli: Cli, train: Cli) -> None:
    assert train("training.output_dir=run", "data.valid_fraction=0").code == 0
    result = cli("verify", "run/best")
    assert result.code == 1
    assert "run: none of its 1 checkpoints has a value of eval/loss" in result.err
