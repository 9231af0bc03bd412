"""Safe places: the words on both sides, found alone, are those of the whole text."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from tisslm.tokenizers.byte import ByteTokenizer
from tisslm.tokenizers.char import CharTokenizer
from tisslm.tokenizers.cuts import KNOWN_SPLITS, find_cuts, first_match

#: What the expressions treat in a way of its own, and white space that is not so everywhere.
ODD = "\t\r\x0b\x1c\x85\xa0\u180e\u200b\u2003\u2028\u3000\ufeff"
LETTERS = "asSTéßıǅʰ東\u0958\u0301\u0345\u0e33𝔘"
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(["'s", "'re", "'LL", "'d", " ", "\n", "  ", "\n\n", "\r\n", "/", "."]),
        st.sampled_from([*LETTERS, *ODD, *"07½Ⅷ_-'🙂"]),
    ),
    max_size=14,
).map("".join)


def byte_level(**options: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(**options)


def by_expression(pattern: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, byte_level(add_prefix_space=False, use_regex=False)])


def tokenizer(splitting: pre_tokenizers.PreTokenizer, normalizer: object = None) -> Tokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = splitting
    if normalizer is not None:
        inner.normalizer = normalizer
    return inner


def content(inner: Tokenizer) -> dict[str, object]:
    found: dict[str, object] = json.loads(inner.to_str())
    return found


SPLITTINGS = {
    "gpt2": byte_level(add_prefix_space=False),
    "prefix": byte_level(add_prefix_space=True),
    **{f"known{i}": by_expression(pattern) for i, pattern in enumerate(sorted(KNOWN_SPLITS))},
}
CASES = {
    f"{name}-{form}": tokenizer(splitting, normalizer)
    for name, splitting in SPLITTINGS.items()
    for form, normalizer in (("plain", None), ("nfc", normalizers.NFC()))
}


def words(inner: Tokenizer, text: str) -> list[str]:
    if inner.normalizer is not None:
        text = inner.normalizer.normalize_str(text)
    return [word for word, _ in inner.pre_tokenizer.pre_tokenize_str(text)]


def places(inner: Tokenizer, text: str) -> list[int]:
    cuts = find_cuts(content(inner))
    assert cuts is not None
    found = [first_match(cuts, text, start) for start in range(len(text))]
    return sorted({place for place in found if place != -1})


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
@example(text="a \n b")
@example(text="\u0958\nb")  # its normal form ends in a mark, which takes the line's end
@example(text="a.\nb\n c  d")
def test_words_on_both_sides_are_those_of_the_whole(name, text):
    inner = CASES[name]
    for place in places(inner, text):
        assert words(inner, text[:place]) + words(inner, text[place:]) == words(inner, text)


@pytest.mark.parametrize("name", CASES)
def test_a_place_is_found_in_plain_text(name):
    assert places(CASES[name], "one two\nthree")[0] == 3


def test_a_place_is_never_the_start_or_the_end():
    cuts = find_cuts(content(CASES["gpt2-plain"]))
    assert first_match(cuts, " a ", 0) == 2
    assert first_match(cuts, "ab", 0) == -1
    for made in (ByteTokenizer(), CharTokenizer(characters="ab")):
        assert [made.find_cut("ab", start) for start in (0, 1, 2)] == [1, 1, -1]


@pytest.mark.parametrize(
    "inner",
    [
        tokenizer(pre_tokenizers.Metaspace()),
        tokenizer(by_expression(r"\w+|\W")),
        tokenizer(byte_level(use_regex=False)),
        tokenizer(byte_level(), normalizers.Lowercase()),
    ],
)
def test_other_ways_of_splitting_are_not_cut(inner):
    assert find_cuts(content(inner)) is None


@pytest.mark.parametrize(
    ("token", "known"),
    [
        (AddedToken("<|x|>"), True),
        (AddedToken("<x>", rstrip=True), False),
        (AddedToken("<x>", lstrip=True), False),
        (AddedToken("<x>", single_word=True), False),
        (AddedToken("a b"), False),
    ],
)
def test_added_tokens_that_take_white_space_forbid_cuts(token, known):
    inner = tokenizer(byte_level())
    inner.add_tokens([token])
    assert (find_cuts(content(inner)) is not None) == known
