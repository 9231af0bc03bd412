"""Conformance checks of tokenizers: they must keep the contract ``tisslm.contracts.Tokenizer``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tisslm.contracts import Tokenizer
from tisslm.testing.checks import Checks, Report, keeps_final_methods
from tisslm.testing.examples import option_sets

__all__ = ["check_tokenizer"]

Make = Callable[[], Tokenizer]

#: The text that a tokenizer is built from and must reproduce: one to four bytes per character,
#: spaces and line ends of several kinds, a combining accent, repetition for those that learn.
TEXT = (
    "To be, or not to be: that is the question.\n"
    "  Übergröße, naïve café, 東京の夜, русский, 🙂👍 e\u0301\t12 345,67\r\n"
) * 4

#: The number of ids that are decoded one by one, from either end of the vocabulary.
ENDS = 300


def check_tokenizer(
    cls: type[Tokenizer],
    *,
    options: Mapping[str, Any] | None = None,
    text: str | None = None,
    name: str = "",
) -> Report:
    """Check that a tokenizer class keeps its contract.

    Parameters
    ----------
    cls : type
    options : mapping, optional
        Options of ``from_text``. By default ``cls.test_options``, or its own defaults, with
        ``vocab_size=300`` where that has none.
    text : str, optional
        The text that the tokenizer is built from and must reproduce. By default ``cls.test_text``,
        or a text in several scripts.
    name : str, optional
        Its name in messages.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that fails.
    """
    checks = Checks(name or f"tokenizer {cls.__name__}", Tokenizer)
    checks.run(keeps_final_methods, cls)
    sample = getattr(cls, "test_text", TEXT) if text is None else text
    sets = option_sets(cls, options, maker=cls.from_text, n_given=1, examples={"vocab_size": 300})
    for chosen in sets:

        def make(chosen: Mapping[str, Any] = chosen) -> Tokenizer:
            return cls.from_text(sample, **chosen)

        for prop in PROPERTIES:
            checks.run(prop, make, sample, options=chosen)

        def of_several(chosen: Mapping[str, Any] = chosen) -> Tokenizer:
            return cls.from_texts(iter((sample,)), **chosen)

        checks.run(texts_build_what_a_text_builds, make, of_several, options=chosen)
    return checks.report()


def pieces(text: str) -> list[str]:
    """Return the text, its lines, and parts that begin and end anywhere."""
    parts = [text[i : i + 7] for i in range(0, min(len(text), 140), 5)]
    return [text, "", *text.splitlines(keepends=True)[:4], *parts]


def what_is_encoded_decodes_to_itself(checks: Checks, make: Make, text: str) -> None:
    """Check that ``decode(encode(text)) == text``, for the text and for parts of it."""
    tokenizer = make()
    for part in pieces(text):
        checks.same(tokenizer.decode(tokenizer.encode(part)), part, "text")
    checks.same(list(tokenizer.encode("")), [], "ids of the empty text")


def ids_are_in_the_vocabulary(checks: Checks, make: Make, text: str) -> None:
    """Check that ids are integers from 0 to below vocab_size, the same every time."""
    tokenizer = make()
    size = tokenizer.vocab_size
    checks.that(int(size) == size and size >= 1, "vocab_size >= 1", size)
    ids = tokenizer.encode(text)
    wrong = [i for i in ids if not (isinstance(i, int | np.integer) and 0 <= i < size)]
    checks.that(not wrong, f"ids in range({size})", wrong[:1])
    checks.same(list(tokenizer.encode(text)), list(ids), "ids, encoded again")
    checks.same(list(make().encode(text)), list(ids), "ids of a tokenizer from the same text")


def an_array_has_the_same_ids(checks: Checks, make: Make, text: str) -> None:
    """Check that ``encode_array`` is ``encode`` as a flat array of integers."""
    tokenizer = make()
    for part in pieces(text):
        array = tokenizer.encode_array(part)
        fits = isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype.kind in "iu"
        checks.that(fits, "a flat array of integers", f"{getattr(array, 'dtype', type(array))}")
        checks.same(array.tolist(), list(tokenizer.encode(part)), "ids")


def a_batch_and_a_cut_text_have_the_same_ids(checks: Checks, make: Make, text: str) -> None:
    """Check ``encode_batch``, and that a text cut by ``find_cut`` has the ids of the whole."""
    tokenizer = make()
    parts = pieces(text)
    batch = [array.tolist() for array in tokenizer.encode_batch(parts)]
    checks.same(batch, [list(tokenizer.encode(part)) for part in parts], "ids of a batch")
    ids = list(tokenizer.encode(text))
    for start in range(0, len(text), 7):
        place = tokenizer.find_cut(text, start)
        inside = place == -1 or max(start, 1) <= place < len(text)
        checks.that(inside, f"-1, or a place of the text from {start} on", place)
        if place != -1:
            found = [*tokenizer.encode(text[:place]), *tokenizer.encode(text[place:])]
            checks.same(found, ids, f"ids of the text, cut at {place}")


def bytes_are_those_of_the_text(checks: Checks, make: Make, text: str) -> None:
    """Check that ``count_bytes`` of a text's ids is the length of its UTF-8 form."""
    tokenizer = make()
    end = tokenizer.end_of_text
    marks = [*tokenizer.begin, *tokenizer.ends, *(() if end is None else (end,))]
    for part in pieces(text):
        ids = tokenizer.encode_array(part)
        if not np.isin(ids, marks).any():
            checks.same(tokenizer.count_bytes(ids), len(part.encode()), f"bytes of {part[:20]!r}")
    for i in marks:
        checks.same(tokenizer.count_bytes(np.array([i])), 0, f"bytes of id {i}, around a text")


def every_id_decodes(checks: Checks, make: Make, text: str) -> None:
    """Check that every id below vocab_size, which a model may sample, decodes to some text."""
    tokenizer = make()
    size = tokenizer.vocab_size
    for i in sorted({*range(min(size, ENDS)), *range(max(0, size - ENDS), size)}):
        got = tokenizer.decode([i])
        checks.that(isinstance(got, str), f"id {i} to decode to a str", type(got).__name__)


def end_of_text_is_an_id_or_none(checks: Checks, make: Make, text: str) -> None:
    """Check that the id that ends documents is in the vocabulary, the same every time."""
    tokenizer = make()
    end = tokenizer.end_of_text
    known = end is None or (isinstance(end, int) and 0 <= end < tokenizer.vocab_size)
    checks.that(known, f"None or an int in range({tokenizer.vocab_size})", repr(end))
    checks.same(make().end_of_text, end, "end_of_text of a tokenizer from the same text")
    other = type(tokenizer).from_state(json.loads(json.dumps(tokenizer.state())))
    checks.same(other.end_of_text, end, "end_of_text of the restored tokenizer")


def ids_around_a_text_are_in_the_vocabulary(checks: Checks, make: Make, text: str) -> None:
    """Check ``begin`` and ``ends``, and that the restored tokenizer has the same."""
    tokenizer = make()
    other = type(tokenizer).from_state(json.loads(json.dumps(tokenizer.state())))
    special = tokenizer.special_ids
    around = special.issuperset((*tokenizer.begin, *tokenizer.ends))
    checks.that(around, "special_ids to have begin and ends", sorted(special))
    given = {"begin": (tokenizer.begin, other.begin), "ends": (tokenizer.ends, other.ends)}
    for name, (ids, restored) in given.items():
        known = isinstance(ids, tuple) and all(
            isinstance(i, int) and 0 <= i < tokenizer.vocab_size for i in ids
        )
        checks.that(known, f"{name} as a tuple of ints in range({tokenizer.vocab_size})", repr(ids))
        checks.same(restored, ids, f"{name} of the restored tokenizer")


def published_files_are_json(checks: Checks, make: Make, text: str) -> None:
    """Check that ``published`` returns None, or JSON objects with a ``tokenizer.json``."""
    files = make().published()
    known = files is None or "tokenizer.json" in files
    checks.that(known, "None, or a tokenizer.json among the files", sorted(files or ()))
    if files is not None:
        for name, content in files.items():
            checks.same(json.loads(json.dumps(content)), content, f"{name} after JSON")


def the_state_goes_through_json(checks: Checks, make: Make, text: str) -> None:
    """Check that ``from_state`` builds the same tokenizer from a state that was JSON."""
    tokenizer = make()
    state = tokenizer.state()
    restored = json.loads(json.dumps(state))
    checks.same(restored, state, "the state after JSON")
    other = type(tokenizer).from_state(restored)
    checks.same(other.vocab_size, tokenizer.vocab_size, "vocab_size")
    for part in pieces(text):
        ids = list(tokenizer.encode(part))
        checks.same(list(other.encode(part)), ids, "ids of the restored tokenizer")
        checks.same(other.decode(ids), part, "text of the restored tokenizer")
    checks.same(other.state(), state, "the state of the restored tokenizer")


def texts_build_what_a_text_builds(checks: Checks, make: Make, of_several: Make) -> None:
    """Check that ``from_texts`` of one text builds what ``from_text`` does."""
    checks.same(of_several().state(), make().state(), "the state of a tokenizer from several texts")


PROPERTIES: tuple[Callable[[Checks, Make, str], None], ...] = (
    what_is_encoded_decodes_to_itself,
    ids_are_in_the_vocabulary,
    an_array_has_the_same_ids,
    a_batch_and_a_cut_text_have_the_same_ids,
    every_id_decodes,
    the_state_goes_through_json,
    end_of_text_is_an_id_or_none,
    ids_around_a_text_are_in_the_vocabulary,
    published_files_are_json,
    bytes_are_those_of_the_text,
)
