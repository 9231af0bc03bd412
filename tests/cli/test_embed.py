"""``tisslm embed``: options, what is printed, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from letters import Letters

from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.embedding import TextEmbedder

if TYPE_CHECKING:
    from conftest import Cli

ARGUMENTS = ("embed", "model", "--input", "texts.txt", "--output", "a.npy")


@pytest.fixture
def letters(folder: Path, monkeypatch: pytest.MonkeyPatch) -> TextEmbedder:
    """Make every path a model that counts letters, and write a file of texts."""
    (folder / "texts.txt").write_text("ab\nabcabc\n", encoding="utf-8")
    prompts = {"query": "f", "document": "e"}
    found = TextEmbedder(Letters(), ByteTokenizer(), prompts=prompts, max_tokens=5)
    monkeypatch.setattr("tisslm.cli.embed.load_encoder", lambda path, **_: found)
    return found


@pytest.mark.usefixtures("letters")
def test_the_vectors_of_a_file_are_an_array(cli: Cli) -> None:
    done = cli(*ARGUMENTS)
    assert done.code == 0, done.err
    assert np.load("a.npy").tolist() == [[1, 1, 0, 0, 0, 0], [2, 2, 1, 0, 0, 0]]
    assert "vectors: a.npy (2 x 6)" in done.out
    assert done.err == (
        "note: texts.txt: 1 of 2 texts have more than 5 tokens, of which the last are cut off\n"
    )


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize(
    ("options", "first"),
    [
        (("--query",), [1, 1, 0, 0, 0, 1]),
        (("--document", "--batch-size", "1"), [1, 1, 0, 0, 1, 0]),
        (("--prompt", "cc"), [1, 1, 2, 0, 0, 0]),
        (("--dimensions", "1", "--normalize"), [1]),
    ],
)
def test_options_of_the_embedder(cli: Cli, options: tuple[str, ...], first: list[int]) -> None:
    assert cli(*ARGUMENTS, *options).code == 0
    assert np.load("a.npy")[0].tolist() == first


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--query", "--document"), 3, "error: --prompt, --query, --document: expected one of"),
        (("--dimensions", "7"), 3, "error: dimensions: expected from 1 to 6, the numbers of the"),
        (("--output", "a.bin"), 3, "error: --output: expected a name that ends in .npy, got"),
        (("--input", "none.txt"), 1, "error: none.txt: no such file or folder"),
    ],
)  # fmt: skip
def test_mistakes_are_told(cli: Cli, options: tuple[str, ...], code: int, message: str) -> None:
    done = cli(*ARGUMENTS, *options)
    assert done.code == code
    assert done.err.startswith(message)
    assert not Path("a.npy").exists()


def test_a_language_model_is_refused(cli: Cli, trained: Path) -> None:
    done = cli("embed", str(trained), "--input", "text.txt", "--output", "a.npy")
    assert done.code == 1
    assert ": expected an encoder, got Transformer, which predicts tokens and has no" in done.err


def test_a_prompt_that_the_model_does_not_name_is_told(cli: Cli, letters: TextEmbedder) -> None:
    del letters.prompts["query"]
    done = cli(*ARGUMENTS, "--query")
    assert done.code == 0
    said = "note: model: it names no prompt for this kind of text, so none was written\n"
    assert said in done.err
    assert said not in cli(*ARGUMENTS, "--document").err
    assert said not in cli(*ARGUMENTS).err
