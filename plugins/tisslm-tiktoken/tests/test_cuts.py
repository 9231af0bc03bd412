"""Safe places: the ids of the parts, one after another, are those of the whole text."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tisslm_tiktoken.patterns import PATTERNS
from tisslm_tiktoken.tokenizer import TiktokenTokenizer

from tisslm.datasets.sources import ReadOptions
from tisslm.workflows.tokenize import ShardFolder
from tisslm.workflows.tokenize.pipeline import tokenize

END = "<|endoftext|>"

#: What the patterns treat in a way of its own, and white space that is not so everywhere.
ODD = "\t\r\x0b\x1c\x85\xa0\u180e\u200b\u2003\u2028\u3000\ufeff"
LETTERS = "asSTéß\u0131ǅʰ東\u0958\u0301\u0345\u0e33\U0001d518"
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(["'s", "'re", "'LL", "'d", " ", "\n", "  ", "\n\n", "\r\n", "/", ".", END]),
        st.sampled_from([*LETTERS, *ODD, *"07½Ⅷ_-'🙂"]),
    ),
    max_size=14,
).map("".join)


def pair_ranks() -> dict[bytes, int]:
    """Return ranks that merge all bytes of a piece, so that a wrong cut shows."""
    ranks = {bytes([i]): i for i in range(256)}
    alphabet = sorted({byte for c in LETTERS + ODD + "07½Ⅷ_-' \n/.lrLRed" for byte in c.encode()})
    for first in alphabet:
        for second in alphabet:
            ranks[bytes([first, second])] = len(ranks)
    return ranks


def lines(ranks: dict[bytes, int]) -> str:
    import base64

    return "".join(f"{base64.b64encode(t).decode()} {rank}\n" for t, rank in ranks.items())


RANKS = lines(pair_ranks())
MADE = {
    name: TiktokenTokenizer(ranks=RANKS, pattern=name, special_tokens=[END])
    for name in ("gpt2", "cl100k_base", "o200k_base")
}


def places(tokenizer: TiktokenTokenizer, text: str) -> list[int]:
    found = {tokenizer.find_cut(text, start) for start in range(len(text))}
    return sorted(found - {-1})


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
@example(text="a \n b")
@example(text="a.\nb\n c  d")
@example(text=f"a{END} b{END}\n")
def test_parts_have_the_ids_of_the_whole(name: str, text: str) -> None:
    tokenizer = MADE[name]
    ids = tokenizer.encode(text)
    for place in places(tokenizer, text):
        assert 0 < place < len(text)
        parts = [*tokenizer.encode(text[:place]), *tokenizer.encode(text[place:])]
        assert parts == ids
        # the first part is that of a longer text, too
        more = tokenizer.encode(f"{text[place:]} a")
        assert tokenizer.encode(f"{text} a") == [*tokenizer.encode(text[:place]), *more]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpt2", [2, 4, 8, 10]), ("cl100k_base", [2, 8]), ("o200k_base", [2, 8])],
)
def test_there_are_enough_places(name: str, expected: list[int]) -> None:
    assert places(MADE[name], "ab .\n\ncd\n:\nx") == expected
    assert MADE[name].find_cut("abc", 0) == -1


def test_without_a_known_place_a_text_is_not_cut() -> None:
    own = TiktokenTokenizer(ranks=RANKS, pattern=r"\S+|\s+")
    assert own.find_cut("a b c", 0) == -1
    special = {"ranks": RANKS, "pattern": "gpt2", "special_tokens": ["<a b>"]}
    assert TiktokenTokenizer(**special).find_cut("a b c", 0) == -1
    assert TiktokenTokenizer(**special, encode_special=False).find_cut("a b c", 0) == 1


@pytest.mark.parametrize("encoding", ["p50k_edit", "o200k_harmony"])
def test_other_encodings_with_a_known_pattern_are_cut(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = PATTERNS["gpt2" if encoding == "p50k_edit" else "o200k_base"]
    made = tiktoken.Encoding(
        encoding, pat_str=pattern, mergeable_ranks=pair_ranks(), special_tokens={}
    )
    monkeypatch.setattr("tiktoken.get_encoding", lambda name: made)
    assert TiktokenTokenizer(encoding=encoding).find_cut("a b c", 0) == 1


def test_a_large_document_is_tokenized_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = MADE["o200k_base"]
    text = "It's a line, of many.\n\tAnd 1234 more\n" * 5000
    (tmp_path / "a.txt").write_text(text)
    longest = []
    encode = TiktokenTokenizer.encode_array
    monkeypatch.setattr(
        TiktokenTokenizer,
        "encode_array",
        lambda self, part: longest.append(len(part)) or encode(self, part),
    )
    with ShardFolder(tmp_path / "s", tokenizer, "tiktoken", 10**6) as folder:
        tokenize([tmp_path / "a.txt"], tokenizer, folder, ReadOptions())
        folder.finish()
    assert max(longest) < len(text) / 10
    from tisslm.datasets.shards import TokenShards

    found = TokenShards(tmp_path / "s").documents().tokens[:].tolist()
    assert found == [*encode(tokenizer, text).tolist(), tokenizer.end_of_text]
