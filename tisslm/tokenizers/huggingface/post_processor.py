"""The ids that a tokenizer.json's post-processor puts before a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["leading_ids"]


def leading_ids(post_processor: Any) -> list[int]:
    """Return the ids that the template of a ``TemplateProcessing`` has before the text.

    Parameters
    ----------
    post_processor : any
        That part of a tokenizer.json; what has another form gives no ids.
    """
    if not isinstance(post_processor, Mapping):
        return []
    steps = post_processor.get("processors")
    if post_processor.get("type") == "Sequence" and isinstance(steps, list):
        return next(filter(None, map(leading_ids, steps)), [])
    pieces, known = post_processor.get("single"), post_processor.get("special_tokens")
    if not isinstance(pieces, list) or not isinstance(known, Mapping):
        return []
    found: list[int] = []
    for piece in pieces:
        token = piece.get("SpecialToken") if isinstance(piece, Mapping) else None
        name = token.get("id") if isinstance(token, Mapping) else None
        if not isinstance(name, str):  # the text, which the rest follows
            break
        described = known.get(name)
        ids = described.get("ids") if isinstance(described, Mapping) else None
        found += ids if isinstance(ids, list) else []
    return found
