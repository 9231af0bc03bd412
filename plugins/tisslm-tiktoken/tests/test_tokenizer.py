"""The tokenizer: tiktoken's own ids, states, special tokens, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
import tiktoken.load
import tiktoken_ext.openai_public as public
from hypothesis import given, settings
from hypothesis import strategies as st
from tisslm_tiktoken.patterns import PATTERNS
from tisslm_tiktoken.tokenizer import TiktokenTokenizer

from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.testing import check_tokenizer

END = "<|endoftext|>"
BYTES = TiktokenTokenizer.test_options[0]


def make(file: Path, **options: Any) -> TiktokenTokenizer:
    return TiktokenTokenizer(path=file, **{"pattern": "gpt2", **options})


def by_bytes(**options: Any) -> TiktokenTokenizer:
    return TiktokenTokenizer(**{**BYTES, **options})


# ------------------------------------------------------------------------------ the same ids


def test_it_keeps_the_contract_of_tokenizers(file: Path) -> None:
    assert check_tokenizer(TiktokenTokenizer).n_assertions > 100
    options = {"path": str(file), "pattern": "cl100k_base", "special_tokens": [END]}
    assert check_tokenizer(TiktokenTokenizer, options=options).n_assertions > 100


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k_base", "o200k_base"])
def test_ids_are_those_of_tiktoken(
    file: Path, ranks: dict[bytes, int], text: str, pattern: str
) -> None:
    peer = tiktoken.Encoding(
        "peer", pat_str=PATTERNS[pattern], mergeable_ranks=ranks, special_tokens={END: 316}
    )
    tokenizer = make(file, pattern=pattern, special_tokens=[END])
    for part in (text, text[7:500], f"{END}a{END}", "a" * 1000, " \n\t" * 400):
        ids = peer.encode(part, allowed_special="all")
        assert tokenizer.encode(part) == ids
        assert tokenizer.encode_array(part).tolist() == ids
        assert tokenizer.decode(ids) == part
    assert len(tokenizer.encode(text)) < len(text.encode()) * 0.75  # pairs are merged
    assert tokenizer.vocab_size == peer.n_vocab == 317


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(sample: str) -> None:
    tokenizer = by_bytes(pattern="o200k_base")
    assert tokenizer.decode(tokenizer.encode_array(sample)) == sample


@pytest.mark.parametrize(
    "name", [n for n in PATTERNS if n in public.ENCODING_CONSTRUCTORS], ids=str
)
def test_named_patterns_cut_as_tiktokens_own(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    for loader in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
        monkeypatch.setattr(public, loader, lambda *a, **k: ranks)
    theirs = public.ENCODING_CONSTRUCTORS[name]()["pat_str"]
    # every piece that two letters of this text may make is one token, so a cut shows
    sample = text[:400] + "I'LL we'Re x1234567 ...\r\n\n  \t\u00a0Ǆab\u0301C/\n"
    pairs = {sample[i : i + 2].encode() for i in range(len(sample))}
    ranks |= {p: 256 + i for i, p in enumerate(sorted(pairs - set(ranks))) if len(p) == 2}
    mine, other = (
        tiktoken.Encoding("x", pat_str=p, mergeable_ranks=ranks, special_tokens={})
        for p in (PATTERNS[name], theirs)
    )
    assert mine.encode(sample) == other.encode(sample)


@pytest.mark.parametrize(("end", "dtype"), [(None, "uint16"), (65535, "uint16"), (65536, "uint32")])
def test_arrays_have_the_smallest_type(file: Path, end: int | None, dtype: str) -> None:
    tokenizer = make(file, special_tokens={} if end is None else {END: end})
    assert tokenizer.encode_array("green").dtype == dtype
    assert tokenizer.end_of_text == end


def test_a_gap_between_ids_decodes_to_a_replacement_character(file: Path) -> None:
    tokenizer = make(file, special_tokens={END: 320})
    assert tokenizer.vocab_size == 321
    assert tokenizer.decode([97, 318, 98, 0xC3]) == "a\ufffdb\ufffd"
    with pytest.raises(DataError, match=r"token id 321 at position 1 is not in range\(321\)"):
        tokenizer.decode([1, 321])


# ------------------------------------------------------------------------------ special tokens


@pytest.mark.parametrize(
    ("names", "end"),
    [
        (["<|x|>"], None),
        (["</s>", END], 261),
        (["<|x|>", "<|end_of_text|>"], 261),
        (["<eos>"], 260),
    ],
)
def test_what_ends_a_document(names: list[str], end: int | None) -> None:
    assert by_bytes(special_tokens=names).end_of_text == end


def test_no_text_is_read_to_build_it() -> None:
    tokenizer = TiktokenTokenizer.from_texts(iter([1 / 2, None]), **BYTES)  # type: ignore[list-item]
    assert tokenizer.end_of_text == 300


def test_special_tokens_within_a_text(file: Path) -> None:
    first = make(file, special_tokens=[END, "<|x|>"])
    assert first.special_tokens == {END: 316, "<|x|>": 317}
    assert first.encode(f"a{END}") == [97, 316]
    plain = make(file, special_tokens=[END], encode_special=False)
    assert 316 not in plain.encode(f"a{END}")
    assert plain.decode(plain.encode(f"a{END}")) == f"a{END}"
    assert TiktokenTokenizer.from_state(plain.state()).encode(END) == plain.encode(END)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"special_tokens": {"<a>": 97}},
            "expected an id of its own for '<a>', got 97, and one of the two is another token's; "
            "the first free id is 260",
        ),
        (
            {"special_tokens": {"<a>": 2**22}},
            "expected the id of '<a>' as an integer from 0 to 4194303, got 4194304",
        ),
        (
            {"special_tokens": {"<a>": True}},
            "expected the id of '<a>' as an integer from 0 to 4194303, got True",
        ),
        (
            {"special_tokens": ["<a>", "<a>b"]},
            "expected special tokens of which none begins another, got '<a>' and '<a>b'; rename "
            "one",
        ),
        (
            {"special_tokens": "<a>"},
            "expected special_tokens as at most 16384 different texts, with their ids or without, "
            'got str of another kind; write them as ["<|endoftext|>"], or as a table '
            '{ "<|endoftext|>" = 260 }',
        ),
        ({"encode_special": 1}, "expected encode_special as true or false, got 1"),
        (
            {"encoding": "gpt2"},
            "expected exactly one of encoding, path and ranks, got encoding and ranks; set path "
            "to a .tiktoken file, or encoding to a name that tiktoken knows",
        ),
        (
            {"ranks": None},
            "expected exactly one of encoding, path and ranks, got none; set path to a .tiktoken "
            "file, or encoding to a name that tiktoken knows",
        ),
        (
            {"pattern": None},
            "expected pattern as the name of an encoding (gpt2, r50k_base, p50k_base, cl100k_base, "
            "o200k_base) or a regular expression of at most 10000 characters, got None; a file of "
            "ranks does not have it, and a wrong one gives wrong tokens",
        ),
        (
            {"pattern": "a" * 10_001},
            "expected pattern as the name of an encoding (gpt2, r50k_base, p50k_base, cl100k_base, "
            "o200k_base) or a regular expression of at most 10000 characters, got 10001 "
            "characters; a file of ranks does not have it, and a wrong one gives wrong tokens",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        by_bytes(**options)
    assert str(caught.value) == f"tiktoken tokenizer: {message}"


@pytest.mark.parametrize("names", [["a", "a"], [""], [1], {"a\ud800": 300}, 7, b"ab"])
def test_what_is_no_list_of_texts_is_refused(names: Any) -> None:
    with pytest.raises(ConfigError, match="expected special_tokens as at most 16384 different"):
        by_bytes(special_tokens=names)


# ------------------------------------------------------------------------------ patterns


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"expected a regular expression as the pattern, got '\('"),
        ("(?:(?:a{1000}){1000}){1000}", "expected a regular expression as the pattern"),
        (
            r"\p{L}+",
            r"the pattern leaves out \d+ of the text's \d+ bytes, which would be lost; end ",
        ),
        ("x*", "expected a pattern that takes every text apart, got 'x\\*' "),
    ],
)
def test_a_pattern_that_cannot_cut_every_text_is_refused(
    pattern: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=message):
        by_bytes(pattern=pattern)


def test_a_pattern_that_loses_text_later_is_found_then() -> None:
    tokenizer = by_bytes(pattern=r"[^%]+")
    with pytest.raises(DataError) as caught:
        tokenizer.encode("100 % of it %")
    assert str(caught.value) == (
        "tiktoken tokenizer: the pattern leaves out 2 of the text's 13 bytes, which would be lost; "
        r"end it with alternatives for what is left: |\s|\S"
    )


def test_a_text_that_is_too_much_for_the_pattern_is_an_error() -> None:
    tokenizer = by_bytes(pattern=r"\s+(?!\S)|\s|\S")
    with pytest.raises(DataError) as caught:
        tokenizer.encode(" " * 1_000_000 + "x")
    said = str(caught.value)
    assert said.startswith("tiktoken tokenizer: the pattern cannot take a text of 1000001 bytes")
    assert said.endswith(
        "; cut very long runs of white space in it, or mend the pattern, which must not match an "
        "empty text"
    )
    assert len(tokenizer.encode(" " * 10_000 + "x")) == 5002


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(DataError, match=r"got the lone surrogate U\+D800 at position 1"):
        by_bytes().encode("a\ud800")


# ------------------------------------------------------------------------------ states


def test_the_state_needs_no_file(file: Path, text: str) -> None:
    tokenizer = make(file, special_tokens=[END])
    ids = tokenizer.encode(text)
    content = file.read_text()
    file.unlink()
    state = json.loads(json.dumps(tokenizer.state()))
    assert state["ranks"] == content
    again = TiktokenTokenizer.from_state(state)
    assert again.encode(text) == ids
    assert again.end_of_text == 316
    assert again.state() == state


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ranks": None}, "expected ranks as a str"),
        ({"ranks": "AA== 0\n"}, "ranks: expected all 256 single bytes among the tokens, got 1"),
        ({"ranks": BYTES["ranks"] + "AA== 999\n"}, "ranks, line 261: token b'\\x00' was already"),
        ({"pattern": 3}, "expected pattern as a str"),
        ({"pattern": "("}, "expected a regular expression as the pattern"),
        ({"special_tokens": [END]}, "expected special_tokens as a dict"),
        ({"special_tokens": {END: "300"}}, "expected the id of '<|endoftext|>' as an integer"),
        ({"encode_special": "yes"}, "expected encode_special as a bool"),
    ],
)
def test_a_damaged_state_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        TiktokenTokenizer.from_state(by_bytes().state() | change)
    said = str(caught.value)
    assert said.startswith(
        "tiktoken tokenizer: expected a state with ranks, pattern and special tokens, got another ("
    )
    assert reason in said
    assert said.endswith("); the checkpoint is damaged, use an earlier one")


# ------------------------------------------------------------------------------ named encodings


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, an empty cache, and nothing that was loaded before."""

    def refuse(path: str) -> bytes:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tiktoken.load, "read_file", refuse)
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.usefixtures("offline")
def test_offline_a_named_encoding_says_what_to_do() -> None:
    with pytest.raises(DataError) as caught:
        TiktokenTokenizer(encoding="cl100k_base")
    assert str(caught.value) == (
        "tiktoken tokenizer: the ranks of encoding 'cl100k_base' could not be downloaded "
        "(ConnectionError); run tiktoken.get_encoding('cl100k_base') where there is a network with "
        "TIKTOKEN_CACHE_DIR set to a folder, copy the folder here and set the variable to it, or "
        "set path to a .tiktoken file, and pattern and special_tokens"
    )


@pytest.mark.usefixtures("offline")
def test_a_named_encoding_brings_pattern_and_special_tokens(
    ranks: dict[bytes, int], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "load_tiktoken_bpe", lambda *a, **k: dict(ranks))
    tokenizer = TiktokenTokenizer(encoding="cl100k_base", special_tokens=["<|mine|>"])
    assert tokenizer.end_of_text == 100257
    assert tokenizer.special_tokens["<|mine|>"] == 100277
    peer = tiktoken.get_encoding("cl100k_base")
    assert tokenizer.encode(text) == peer.encode(text)
    assert TiktokenTokenizer.from_state(tokenizer.state()).encode(text) == peer.encode(text)


def test_unknown_encodings_and_patterns_beside_known_ones_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        TiktokenTokenizer(encoding="gpt5")
    said = str(caught.value)
    assert said.startswith("tiktoken tokenizer: expected encoding as one of gpt2, r50k_base, ")
    assert said.endswith(", got 'gpt5'; for ranks of your own, set path and pattern instead")
    with pytest.raises(ConfigError) as caught:
        TiktokenTokenizer(encoding="gpt2", pattern="gpt2")
    assert str(caught.value) == (
        "tiktoken tokenizer: encoding 'gpt2' has a pattern, so none is taken; leave pattern out, "
        "or set path to a file of ranks"
    )


def test_encoding_again_gives_new_arrays() -> None:
    tokenizer = by_bytes()
    first = tokenizer.encode_array("the")
    first[...] = 0
    np.testing.assert_array_equal(tokenizer.encode_array("the"), [259])
