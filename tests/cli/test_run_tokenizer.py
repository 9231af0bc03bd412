"""Which tokenizer a run has: that of ready tokens, of the configuration, or of its checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tisslm.config import RunConfig
from tisslm.errors import ConfigError, DataError
from tisslm.registry import load_registry
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer
from tisslm.workflows.build.data import RunData, load_data, load_file, load_validation

if TYPE_CHECKING:
    from conftest import Cli


def config(tokenizer: dict[str, Any], **data: Any) -> RunConfig:
    return RunConfig.from_mapping({"data": data, "tokenizer": tokenizer})


def load(tokenizer: dict[str, Any], **data: Any) -> RunData:
    return load_data(config(tokenizer, **data), 8, load_registry())


@pytest.fixture
def ids(folder: Path) -> None:
    """Write ready tokens that say nothing of their tokenizer."""
    (np.arange(300) % 100).astype("<u2").tofile("train.bin")


def write_bpe(path: str, vocab_size: int = 270) -> str:
    tokenizer = BpeTokenizer.from_text("green bottles hang " * 20, vocab_size=vocab_size)
    Path(path).write_text(tokenizer.json_text())
    return path


@pytest.fixture
def two_shards(cli: Cli) -> None:
    """Write one text as token shards of two tokenizers."""
    for out, vocab_size in (("one", 265), ("two", 270)):
        path = write_bpe(f"{out}.json", vocab_size)
        assert cli("tokenize", "text.txt", "--tokenizer", path, "--out", out).code == 0


@pytest.mark.usefixtures("ids")
def test_a_tokenizer_that_cannot_be_had_is_an_error_beside_ready_tokens() -> None:
    with pytest.raises(DataError, match=r"^missing\.json: cannot be read \(No such file"):
        load({"name": "bpe", "path": "missing.json"}, path="train.bin", valid_fraction=0)
    for tokenizer in ({"name": "char"}, {"name": "bpe", "vocab_size": 300}):  # these learn
        assert load(tokenizer, path="train.bin", valid_fraction=0).tokenizer is None


@pytest.mark.usefixtures("two_shards")
def test_a_tokenizer_that_cannot_be_had_is_an_error_beside_shards() -> None:
    with pytest.raises(DataError, match=r"^missing\.json: cannot be read \(No such file"):
        load({"name": "bpe", "path": "missing.json"}, path="one", valid_fraction=0)


@pytest.mark.usefixtures("two_shards")
@pytest.mark.parametrize(
    "data",
    [
        {"path": "one", "valid_path": "two"},
        {"sources": [{"path": "one"}, {"path": "two"}], "valid_fraction": 0},
    ],
)
def test_tokens_of_two_tokenizers_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        load({"name": "char"}, **data)
    message = str(caught.value)
    digests = [json.loads(Path(p, "shards.json").read_text())["tokenizer"]["sha256"][:12]
               for p in ("two", "one")]  # fmt: skip
    second = "two" if "valid_path" in data else "two/train.idx"
    assert message == (
        f"{second}: its ids are of the bpe tokenizer {digests[0]}, those of one/train.idx of the "
        f"bpe tokenizer {digests[1]}; tokenize both with one tokenizer"
    )


@pytest.mark.usefixtures("two_shards")
def test_a_model_is_not_evaluated_on_ids_of_another_tokenizer() -> None:
    tokenizer = BpeTokenizer(path="two.json")
    assert load_file("two", tokenizer, 8)
    with pytest.raises(DataError, match=r"^one: its ids are of the bpe tokenizer [0-9a-f]{12}, th"):
        load_file("one", tokenizer, 8)
    held_out = config({"name": "char"}, path="text.txt", valid_path="one")
    with pytest.raises(DataError, match=r"^one: its ids are of the bpe tokenizer [0-9a-f]{12}, th"):
        load_validation(held_out, tokenizer, 8, load_registry())


@pytest.mark.usefixtures("ids")
def test_a_text_beside_tokens_of_nobody_knows_whom_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"name": "char"}, path="train.bin", valid_path="text.txt")
    assert str(caught.value) == (
        "text.txt: a text to validate on cannot be read without a tokenizer, and the ready tokens "
        "of train.bin say none; the configuration's, char, learns from a text to train on, of "
        "which there is none. Set [tokenizer] to the one that made the tokens (bpe with a path, "
        "byte), or data.valid_path to ready tokens"
    )
    found = load({"name": "byte"}, path="train.bin", valid_path="text.txt")
    assert isinstance(found.tokenizer, ByteTokenizer)
    assert found.valid is not None


# --------------------------------------------------------------------------- going on


def settings(path: str, *more: str) -> tuple[str, ...]:
    names = ("tokenizer.name=bpe", f"tokenizer.path={path}", "training.output_dir=run")
    return (*names, "training.save_every=3", *more)


def take_back(run: Path) -> dict[str, bytes]:
    """Return the bytes of a run's last checkpoint, after which only that of step 3 is left."""
    last = run / "checkpoints" / "checkpoint-6"
    found = {file.name: file.read_bytes() for file in last.iterdir()}
    shutil.rmtree(last)
    return found


@pytest.mark.filterwarnings("default::tisslm.config.ConfigNote")
def test_a_run_goes_on_with_the_tokenizer_of_its_checkpoint(train: Cli, folder: Path) -> None:
    path = write_bpe("tokenizer.json")
    assert train(*settings(path)).code == 0
    expected = take_back(folder / "run")
    Path(path).unlink()
    result = train(*settings(path, "training.resume=auto"))
    assert result.code == 0
    assert (
        "tokenizer.json: cannot be read (No such file or directory); set the tokenizer's path to "
        "a tokenizer.json, the format of the Hugging Face tokenizers library. The run goes on "
        "with the tokenizer of run/checkpoints/checkpoint-3"
    ) in result.err
    again = take_back(folder / "run")
    for name in ("model.safetensors", "optimizer.safetensors", "tokenizer.json"):
        assert again[name] == expected[name]


def test_a_run_that_begins_anew_needs_its_tokenizer(train: Cli) -> None:
    result = train(*settings("missing.json"))
    assert result.code == 1
    assert result.err.startswith("error: missing.json: cannot be read (No such file or directory)")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("{}", "expected a tokenizer.json of the Hugging Face"), (None, "made with another")],
)
def test_another_tokenizer_is_not_passed_over(
    train: Cli, folder: Path, content: str | None, expected: str
) -> None:
    path = write_bpe("tokenizer.json")
    assert train(*settings(path)).code == 0
    take_back(folder / "run")
    if content is None:
        write_bpe(path, 260)
    else:
        Path(path).write_text(content)
    result = train(*settings(path, "training.resume=auto", "model.vocab_size=270"))
    assert result.code == 1
    assert expected in result.err


def test_only_a_checkpoint_of_the_named_tokenizer_helps(train: Cli, folder: Path) -> None:
    assert (
        train("tokenizer.name=byte", "training.output_dir=run", "training.save_every=3").code == 0
    )
    take_back(folder / "run")
    result = train(*settings("missing.json", "training.resume=auto"))
    assert result.code == 1
    assert result.err.startswith("error: missing.json: cannot be read")
