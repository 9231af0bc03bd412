"""Characters: known texts come back, unknown characters are named with their place."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.tokenizers import CharTokenizer
from tisslm.tokenizers import char as char_module

texts = st.text(min_size=1)


@given(texts)
def test_the_training_text_comes_back(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    assert ids == tokenizer.encode_array(text).tolist()
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode(ids) == text


@given(texts)
def test_ids_are_the_sorted_distinct_characters(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.vocab_size == len(set(text))
    assert tokenizer.decode(range(tokenizer.vocab_size)) == "".join(sorted(set(text)))


@given(texts, st.data())
def test_the_state_goes_through_json(text: str, data: st.DataObject) -> None:
    tokenizer = CharTokenizer.from_text(text)
    # The file is UTF-8, whether or not its writer escapes.
    written = json.dumps(tokenizer.state(), ensure_ascii=data.draw(st.booleans())).encode()
    again = CharTokenizer.from_state(json.loads(written))
    assert again.encode(text) == tokenizer.encode(text)
    assert again.state() == tokenizer.state()


@given(known=texts, text=texts)
def test_texts_encode_or_name_the_first_unknown_character(known: str, text: str) -> None:
    tokenizer = CharTokenizer.from_text(known)
    unknown = [i for i, character in enumerate(text) if character not in known]
    if not unknown:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        return
    place = unknown[0]
    with pytest.raises(DataError, match=f"U\\+{ord(text[place]):04X}\\) at position {place} is"):
        tokenizer.encode(text)


def test_an_unknown_character_is_refused_with_what_to_do() -> None:
    with pytest.raises(DataError) as caught:
        CharTokenizer.from_text("abc").encode_array("abécé")
    assert str(caught.value) == (
        "char tokenizer: the character 'é' (U+00E9) at position 2 is not one of the 3 characters "
        "of the training text; remove it, build the tokenizer from a text that has it, or use the "
        "byte tokenizer"
    )


def test_long_texts_are_encoded_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "abcdefg日🜁\n" * 5
    tokenizer = CharTokenizer.from_text(text)
    whole = tokenizer.encode(text)
    monkeypatch.setattr(char_module, "BLOCK", 7)
    assert tokenizer.encode(text) == whole
    with pytest.raises(DataError, match=r"'x' \(U\+0078\) at position 23 "):
        tokenizer.encode(text[:23] + "x" + text)


@pytest.mark.parametrize(("n", "dtype"), [(255, "uint8"), (256, "uint16"), (65535, "uint16")])
def test_arrays_have_the_smallest_type(n: int, dtype: str) -> None:
    # Code points from U+10000 on, beyond the surrogates.
    text = "".join(map(chr, range(0x10000, 0x10000 + n)))
    ids = CharTokenizer.from_text(text).encode_array(text)
    assert ids.dtype == dtype
    assert np.array_equal(ids, np.arange(n))


def test_further_characters_are_known_on_request() -> None:
    tokenizer = CharTokenizer.from_text("ca", characters="bc")
    assert tokenizer.encode("abc") == [0, 1, 2]
    assert CharTokenizer(characters="cabba").state() == {"characters": "abc"}


def test_an_empty_text_encodes_to_nothing() -> None:
    tokenizer = CharTokenizer.from_text("abc")
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_an_empty_training_text_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        CharTokenizer.from_text("")
    assert str(caught.value) == (
        "char tokenizer: expected a training text, got an empty one; "
        "give a text with at least one character"
    )


@pytest.mark.parametrize("characters", ["", 5, ["a"]])
def test_no_characters_are_refused(characters: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        CharTokenizer(characters=characters)
    assert str(caught.value) == (
        "char tokenizer: expected characters as a text that is not empty, got "
        f"{characters!r}; build the tokenizer from a text with CharTokenizer.from_text"
    )


def test_further_characters_that_are_no_text_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        CharTokenizer.from_text("abc", characters=["d"])  # type: ignore[arg-type]
    assert str(caught.value) == (
        "char tokenizer: expected characters as a text, got ['d']; write them as one string"
    )


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        CharTokenizer.from_text("a\ud800")
    assert str(caught.value) == (
        "char tokenizer: expected Unicode text, got the lone surrogate U+D800 at position 1; "
        "read the file as UTF-8 without errors='surrogateescape'"
    )
    with pytest.raises(DataError, match=r"the character '\\ud800' \(U\+D800\) at position 1 "):
        CharTokenizer.from_text("abc").encode("a\ud800")


def test_an_id_out_of_range_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        CharTokenizer.from_text("abc").decode([0, 3])
    assert str(caught.value) == (
        "char tokenizer: token id 3 at position 1 is not in range(3), the vocabulary; "
        "use the tokenizer that the model was trained with"
    )


@pytest.mark.parametrize("state", [{}, {"characters": "ba"}, {"characters": "aab"},
                                   {"characters": ""}, {"characters": ["a"]}])  # fmt: skip
def test_a_damaged_state_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError) as caught:
        CharTokenizer.from_state(state)
    assert str(caught.value) == (
        "char tokenizer: expected a state with distinct characters in the order of their code "
        "points, got another; the checkpoint is damaged, use an earlier one"
    )
