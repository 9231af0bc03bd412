"""Byte pairs: what is trained or read comes back exactly, and bad files are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.tokenizers import BpeTokenizer, bpe, bpe_training, cuts

TEXT = "the cat sat on the mat; the dog sat on the log.\n  the cat and the dog sat.\n" * 20
TRAINED = BpeTokenizer.from_text(TEXT, vocab_size=270)


def saved(directory: Path, **changes: Any) -> Path:
    """Write the trained tokenizer as a tokenizer.json, with some of its fields changed."""
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(TRAINED.state()["tokenizer"] | changes), encoding="utf-8")
    return path


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    ids = TRAINED.encode(text)
    assert all(0 <= i < TRAINED.vocab_size for i in ids)
    array = TRAINED.encode_array(text)
    assert array.dtype == np.uint16
    assert array.tolist() == ids
    assert TRAINED.decode(ids) == TRAINED.decode(array) == text


@given(
    st.lists(
        st.sampled_from(["the ", "cat", "\n", "\n \n", "é", "  ", ".", "dog sat"]), max_size=60
    )
)
def test_a_long_text_is_encoded_in_pieces(words: list[str]) -> None:
    text, given_at_once = "".join(words), []
    library = BpeTokenizer._encoded

    def noting(self: BpeTokenizer, texts: list[str]) -> Any:
        given_at_once.append(texts)
        return library(self, texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuts, "PIECE", 5)
        patch.setattr(bpe, "AT_ONCE", 2)
        patch.setattr(BpeTokenizer, "_encoded", noting)
        found = TRAINED.encode_array(text)
    assert found.tolist() == TRAINED.encode(text)
    assert max(map(len, given_at_once)) <= 2
    assert "".join(piece for pieces in given_at_once for piece in pieces) == text


def test_a_piece_of_a_long_text_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the library's memory is some 100 times what it is given at once."""
    seen: list[str] = []
    library = BpeTokenizer._encoded
    monkeypatch.setattr(
        BpeTokenizer, "_encoded", lambda self, texts: [seen.extend(texts), library(self, texts)][1]
    )
    TRAINED.encode_array(TEXT * 10)
    assert len(seen) > 3
    assert max(map(len, seen)) < cuts.PIECE + 20


def test_training_merges_frequent_pairs_up_to_the_vocabulary() -> None:
    assert TRAINED.vocab_size == 270
    assert len(TRAINED.encode(TEXT)) < len(TEXT) / 2
    assert TRAINED.decode([TRAINED.encode(" the")[0]]) == " the"


def test_training_twice_gives_the_same_tokenizer() -> None:
    assert BpeTokenizer.from_text(TEXT, vocab_size=270).state() == TRAINED.state()


def test_long_texts_are_trained_on_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe_training, "BLOCK", len(TEXT) // 20)  # whole lines
    assert BpeTokenizer.from_text(TEXT, vocab_size=270).state() == TRAINED.state()


def test_a_short_text_gives_a_smaller_vocabulary() -> None:
    assert BpeTokenizer.from_text("abab abab", vocab_size=5000).vocab_size < 270


def test_pairs_below_the_frequency_are_not_merged() -> None:
    assert BpeTokenizer.from_text("abab", vocab_size=300, min_frequency=3).vocab_size == 256


def test_special_tokens_are_single_ids_and_are_written_out() -> None:
    end = "<|endoftext|>"
    tokenizer = BpeTokenizer.from_text(TEXT, vocab_size=270, special_tokens=[end])
    assert tokenizer.encode(end) == [0]
    assert tokenizer.decode(tokenizer.encode(f"the cat{end}the dog")) == f"the cat{end}the dog"


@given(st.text(max_size=30))
def test_the_state_goes_through_json(text: str) -> None:
    # With sorted keys, as a checkpoint may write it.
    again = BpeTokenizer.from_state(json.loads(json.dumps(TRAINED.state(), sort_keys=True)))
    assert again.encode(text) == TRAINED.encode(text)
    assert again.state() == TRAINED.state()


def test_a_saved_tokenizer_reads_back_and_is_the_librarys(tmp_path: Path) -> None:
    path = saved(tmp_path)
    library = tokenizers.Tokenizer.from_file(str(path))
    for tokenizer in (
        BpeTokenizer(path=path),
        BpeTokenizer(path=str(path)),
        BpeTokenizer.from_text("", path=path),
    ):
        assert tokenizer.vocab_size == 270
        assert tokenizer.encode(TEXT) == library.encode(TEXT).ids


def test_nothing_is_cut_padded_or_put_around_a_text(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer.from_str(json.dumps(TRAINED.state()["tokenizer"]))
    inner.add_special_tokens(["<s>", "<pad>"])
    inner.enable_truncation(4)
    inner.enable_padding(pad_token="<pad>", pad_id=271, length=50)
    start = ("<s>", 270)
    inner.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", None, [start])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = BpeTokenizer(path=tmp_path / "tokenizer.json")
    assert tokenizer.encode("the cat") == TRAINED.encode("the cat")
    assert tokenizer.encode(TEXT) == TRAINED.encode(TEXT)
    assert tokenizer.vocab_size == 272


def test_ids_with_gaps_are_below_the_vocabulary_size() -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 9}, []))
    tokenizer = BpeTokenizer(tokenizer_json=inner.to_str())
    assert tokenizer.encode("ab") == [0, 9]
    assert tokenizer.vocab_size == 10


def test_an_empty_text_encodes_to_nothing() -> None:
    assert TRAINED.encode("") == []
    assert TRAINED.decode([]) == ""


def test_the_library_is_imported_only_when_used() -> None:
    code = "import sys, tisslm.tokenizers; sys.exit('tokenizers' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "got"), [({}, "none"), ({"path": "a", "tokenizer_json": "b"}, "both")]
)
def test_exactly_one_source_must_be_given(options: dict[str, str], got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BpeTokenizer(**options)
    assert str(caught.value) == (
        f"bpe tokenizer: expected either path or tokenizer_json, got {got}; give one, or train a "
        "tokenizer on a text with BpeTokenizer.from_text(text, vocab_size=...)"
    )


def test_a_tokenizer_is_either_read_or_trained() -> None:
    with pytest.raises(ConfigError) as caught:
        BpeTokenizer.from_text(TEXT, path="a", vocab_size=300)
    assert str(caught.value) == (
        "bpe tokenizer: expected either path or vocab_size, got both; set path to a "
        "tokenizer.json to read, or vocab_size to train one on the training text"
    )


def test_without_a_wish_a_vocabulary_of_4096_is_trained() -> None:
    wanted = BpeTokenizer.from_text(TEXT, vocab_size=4096)
    assert BpeTokenizer.from_text(TEXT).state() == wanted.state()


@pytest.mark.parametrize(("vocab_size", "n_special"), [(256, 1), (0, 0), ("300", 0), (300.0, 0)])
def test_a_vocabulary_without_room_for_the_bytes_is_refused(
    vocab_size: int, n_special: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        BpeTokenizer.from_text(TEXT, vocab_size=vocab_size, special_tokens=["<s>"] * n_special)
    assert str(caught.value) == (
        f"bpe tokenizer: expected vocab_size as an integer of at least {256 + n_special} (the "
        f"bytes and the special tokens), got {vocab_size!r}; raise it"
    )


@pytest.mark.parametrize("special_tokens", ["<s>", [""], [3]])
def test_special_tokens_that_are_no_list_of_texts_are_refused(special_tokens: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        BpeTokenizer.from_text(TEXT, vocab_size=270, special_tokens=special_tokens)
    assert str(caught.value) == (
        "bpe tokenizer: expected special_tokens as a list of texts, got "
        f"{special_tokens!r}; write them as ['<|endoftext|>']"
    )


@pytest.mark.parametrize("min_frequency", [0, -1, "2"])
def test_a_frequency_that_is_no_positive_integer_is_refused(min_frequency: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        BpeTokenizer.from_text(TEXT, vocab_size=270, min_frequency=min_frequency)
    assert str(caught.value) == (
        f"bpe tokenizer: expected min_frequency as an integer >= 1, got {min_frequency!r}; "
        "2 leaves out pairs that occur once"
    )


def test_an_empty_training_text_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        BpeTokenizer.from_text("", vocab_size=300)
    assert str(caught.value) == (
        "bpe tokenizer: expected a training text, got an empty one; "
        "give a text with at least one character"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b"\xff", "it is not UTF-8")],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        BpeTokenizer(path=path)
    assert str(caught.value) == (
        f"{path}: cannot be read ({reason}); set the tokenizer's path to a tokenizer.json, "
        "the format of the Hugging Face tokenizers library"
    )


@pytest.mark.parametrize("content", ["", "not JSON", "{}", "[]", '{"model": {"type": "None"}}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        BpeTokenizer(path=path)
    # The library's own words come in the middle, and differ between its versions.
    start = f"{path}: expected a tokenizer.json of the Hugging Face tokenizers library, got "
    assert str(caught.value).startswith(start + "something else (")
    assert str(caught.value).endswith("); export it again with tokenizer.save(path)")


def test_a_tokenizer_without_tokens_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(path))
    with pytest.raises(DataError) as caught:
        BpeTokenizer(path=path)
    assert str(caught.value) == (
        f"{path}: expected a tokenizer with at least one token, got an empty vocabulary; "
        "train the tokenizer before saving it"
    )


def test_a_file_on_which_the_library_panics_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, normalizer={"type": "Precompiled", "precompiled_charsmap": ""})
    with pytest.raises(
        DataError, match=r"something else .*precompiled_charsmap.*; export it again"
    ):
        BpeTokenizer(path=path)


def test_a_device_is_no_tokenizer() -> None:
    with pytest.raises(DataError, match=r"/dev/zero: cannot be read \(expected a regular file, g"):
        BpeTokenizer(path="/dev/zero")


@pytest.mark.parametrize("state", [{}, {"tokenizer": {}}, {"tokenizer": "x"}])
def test_a_damaged_state_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError) as caught:
        BpeTokenizer.from_state(state)
    start = "bpe tokenizer: expected a state with the content of a tokenizer.json, got another ("
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("); the checkpoint is damaged, use an earlier one")


def test_an_id_out_of_range_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        TRAINED.decode([0, 270])
    assert str(caught.value) == (
        "bpe tokenizer: token id 270 at position 1 is not in range(270), the vocabulary; "
        "use the tokenizer that the model was trained with"
    )


def test_a_lone_surrogate_is_refused() -> None:
    message = (
        "bpe tokenizer: expected Unicode text, got the lone surrogate U+D800 at position 1; "
        "read the file as UTF-8 without errors='surrogateescape'"
    )
    for use in (TRAINED.encode, lambda text: BpeTokenizer.from_text(text, vocab_size=300)):
        with pytest.raises(DataError) as caught:
            use("a\ud800")
        assert str(caught.value) == message


@given(st.text())
def test_bytes_are_those_of_the_text(text: str) -> None:
    assert TRAINED.count_bytes(TRAINED.encode_array(text)) == len(text.encode())


def test_a_part_of_a_character_counts_its_own_bytes() -> None:
    ids = TRAINED.encode_array("東")
    assert len(ids) == 3
    assert [TRAINED.count_bytes(ids[:n]) for n in range(4)] == [0, 1, 2, 3]


def test_the_end_of_a_text_has_no_bytes_and_other_special_tokens_have_theirs() -> None:
    names = ["<|endoftext|>", "<|user|>", "<|größe 1|>"]
    tokenizer = BpeTokenizer.from_text(TEXT, vocab_size=280, special_tokens=names)
    ids = tokenizer.encode_array("a<|endoftext|>b<|user|><|größe 1|>")
    assert tokenizer.count_bytes(ids) == len("ab<|user|><|größe 1|>".encode())


def test_bytes_of_a_vocabulary_that_is_not_byte_level_are_decoded(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "▁b": 1, "?": 2}, "?"))
    inner.decoder = tokenizers.decoders.Metaspace()
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = BpeTokenizer(path=tmp_path / "tokenizer.json")
    assert tokenizer.count_bytes(np.array([0, 1, 1])) == len("a b b")


def test_ids_without_a_token_have_no_bytes() -> None:
    with pytest.raises(DataError, match="token id 999 at position 1 is not in range"):
        TRAINED.count_bytes(np.array([0, 999]))
