r"""Where a text may be cut so that encoding its parts separately gives the ids of the whole.

A tokenizer of the tokenizers library first finds added tokens, then normalizes, then splits the
text into words; a model turns each word into ids, and never looks at two. So a place is safe if no
match of the splitting goes across it, and none before it looks beyond it.

The expressions below match white space as its own, or as the first character of a word. In front
of a space or a line's end that follows a letter or digit, a match ends in each of them:
a word goes on with letters or digits only, and nothing that ends in one looks ahead. GPT-2's
needs less: any character but white space in front. (Its ``\s+(?!\S)`` looks ahead, but only from
white space.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["AFTER_ANY", "AFTER_WORD", "PIECE", "anywhere", "cut_text", "find_cuts", "first_match"]

#: Characters of a piece, at least: the library is fastest on texts of this size.
PIECE = 4096

#: A cut before a space or line end that follows a letter or digit.
AFTER_WORD = re.compile(r"(?<=[^\W_])[ \n]")
#: The same, where a letter may be taken apart into letter and mark (which is punctuation to them,
#: and takes line ends with it).
AFTER_WORD_OR_MARK = re.compile(r"(?<=[^\W_]) ")
#: The same after anything but white space; U+180E is that in some versions of Unicode.
AFTER_ANY = re.compile("(?<=[^\\s\u180e])[ \n]")
#: The same, where a space is put in front of a text that does not begin with one.
SPACE_AFTER_ANY = re.compile("(?<=[^\\s\u180e]) ")

#: Expressions of widely used tokenizers for which AFTER_WORD is a safe place: those of cl100k and
#: Llama 3, of Qwen 2, and of o200k.
_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
KNOWN_SPLITS = {
    rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}",
    rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:{_CONTRACTIONS})?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:{_CONTRACTIONS})?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def find_cuts(tokenizer: Mapping[str, Any]) -> re.Pattern[str] | None:
    """Return a regular expression whose matches begin at safe places to cut.

    Parameters
    ----------
    tokenizer : mapping
        The content of a tokenizer.json.

    Returns
    -------
    re.Pattern or None
        None where no safe place is known: an unknown way of splitting, a normalizer that may look
        across a cut, or added tokens that take in white space.
    """
    normalizer = tokenizer.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        return None
    for token in tokenizer.get("added_tokens", ()):
        takes_more = token.get("lstrip") or token.get("rstrip") or token.get("single_word")
        if takes_more or re.search(r"\s", token["content"]):
            return None
    splitting = tokenizer.get("pre_tokenizer") or {}
    if is_gpt2(splitting):
        return SPACE_AFTER_ANY if splitting.get("add_prefix_space", True) else AFTER_ANY
    if is_known(splitting):
        return AFTER_WORD if normalizer is None else AFTER_WORD_OR_MARK
    return None


def anywhere(text: str, start: int) -> int:
    """Return the first place from ``start`` on within a text, -1 if there is none."""
    place = max(start, 1)
    return place if place < len(text) else -1


def is_gpt2(splitting: Mapping[str, Any]) -> bool:
    """Return True if words are split by the expression of GPT-2."""
    return splitting.get("type") == "ByteLevel" and splitting.get("use_regex", True) is True


def is_known(splitting: Mapping[str, Any]) -> bool:
    """Return True if words are split by another expression with known safe places."""
    steps = splitting.get("pretokenizers", ())
    if splitting.get("type") != "Sequence" or len(steps) != 2:
        return False
    split, byte_level = steps
    return (
        split.get("type") == "Split"
        and split.get("behavior") == "Isolated"
        and split.get("invert") is False
        and split.get("pattern", {}).get("Regex") in KNOWN_SPLITS
        and byte_level.get("type") == "ByteLevel"
        and byte_level.get("use_regex") is False
        and byte_level.get("add_prefix_space") is False
    )


def first_match(cuts: re.Pattern[str] | None, text: str, start: int) -> int:
    """Return the first position from ``start`` on at which the expression matches, -1 if none."""
    found = None if cuts is None else cuts.search(text, max(start, 1))
    return -1 if found is None else found.start()


def cut_text(text: str, find_cut: Callable[[str, int], int]) -> Iterator[str]:
    """Yield a text in pieces, whose ids are together those of the whole."""
    start = 0
    while (place := find_cut(text, start + PIECE)) > 0:
        yield text[start:place]
        start = place
    yield text[start:]
