"""Checks of a tokenizer.json before it is given to the tokenizers library.

The library allocates tables as long as the largest id, and texts as long as its rules demand. A
number that is too large, or a size of 0, ends the process or a thread of it, and no exception can
report that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tisslm.system.safe_files import Refusal, show
from tisslm.system.strict_json import parse_json

__all__ = ["MAX_IDS", "checked_content"]

#: The bound of ids: the library makes a table up to the largest id, even for a small file. No
#: tokenizer in use has more than a million.
MAX_IDS = 2**22

#: The bound of sizes, offsets, types and lengths.
MAX_SIZE = 2**31

#: The largest factor by which all replacements, one after another, may lengthen a text.
MAX_GROWTH = 2**12

#: The most values of a file: a vocabulary of a million entries, and its merges.
MAX_VALUES = 2**24

#: The keys of the steps that the library applies to a text, in order.
PARTS = ("normalizer", "pre_tokenizer", "model", "post_processor", "decoder")

#: Large parts of a model that are not searched: ids are checked by name, merges have no numbers.
VOCABULARY = ("vocab", "merges")


def checked_content(content: str, where: str, refusal: Refusal) -> dict[str, Any]:
    """Parse the content of a tokenizer.json, and check the numbers that the library would trust.

    Parameters
    ----------
    content : str
    where : str
        The file, or another name with which messages begin.
    refusal : Refusal

    Raises
    ------
    TissLMError
        If it is no strict JSON, an id or a size is out of bounds, or its rules make texts many
        times longer; ``refusal`` decides which error.
    """
    found = parse_json(
        content.encode("utf-8", "surrogatepass"), where, refusal, max_values=MAX_VALUES
    )
    reason = _id_reason(found) or _size_reason(found) or _growth_reason(found)
    if reason:
        raise refusal(where, reason)
    return found


def _id_reason(found: Mapping[str, Any]) -> str:
    """Return what is wrong with the ids of the vocabulary and the added tokens, or ""."""
    model, added = found.get("model"), found.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids = dict(vocabulary) if isinstance(vocabulary, dict) else {}
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict):
            ids[f"{token.get('content')}"] = token.get("id")
    for token, number in ids.items():
        if isinstance(number, int) and not 0 <= number < MAX_IDS:
            return f"expected the id of {show(token)} from 0 to {MAX_IDS - 1}, got {show(number)}"
    return ""


def _size_reason(found: Mapping[str, Any]) -> str:
    """Return what is wrong with the other numbers; truncation and padding are switched off."""
    for name in PARTS:
        for path, key, number in _numbers(found.get(name), name):
            least = 1 if key == "length" else 0
            if not least <= number < MAX_SIZE:
                return f"expected {path} from {least} to {MAX_SIZE - 1}, got {show(number)}"
    return ""


def _numbers(value: Any, path: str) -> Iterator[tuple[str, str, int]]:
    """Yield place, last key and value of each integer in nested JSON, except the vocabulary."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        place = f"{path}.{show(key)[1:-1]}"
        if type(inner) is int:
            yield place, str(key), inner
        elif key not in VOCABULARY:
            yield from _numbers(inner, place)


def _growth_reason(found: Mapping[str, Any]) -> str:
    """Return a message if the replacements together make a text too long, or ""."""
    growth = math.prod(factor for part in PARTS for factor in _growths(found.get(part)))
    if growth > MAX_GROWTH:
        return f"expected replacements that make a text at most {MAX_GROWTH} times longer, got more"
    return ""


def _growths(part: Any) -> Iterator[float]:
    """Yield the largest factor by which each replacement within a part lengthens a text."""
    if isinstance(part, list):
        for step in part:
            yield from _growths(step)
    elif isinstance(part, dict):
        if part.get("type") == "Replace":
            yield _growth(part.get("pattern"), part.get("content"))
        for name, inner in part.items():
            if name not in VOCABULARY:
                yield from _growths(inner)


def _growth(pattern: Any, content: Any) -> float:
    """Return the factor by which a replacement lengthens a text; a pattern may match nothing."""
    new = len(content.encode()) if isinstance(content, str) else 0
    old = pattern.get("String") if isinstance(pattern, dict) else None
    return max(1.0, new / len(old.encode())) if isinstance(old, str) and old else 1.0 + new
