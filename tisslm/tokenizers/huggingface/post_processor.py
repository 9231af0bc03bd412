"""The ids that a tokenizer.json's post-processor puts before a text, and one that puts some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["leading_ids", "with_around", "with_leading"]


def leading_ids(post_processor: Any) -> list[int] | None:
    """Return the ids that the template of a ``TemplateProcessing`` has before the text.

    Parameters
    ----------
    post_processor : any
        That part of a tokenizer.json.

    Returns
    -------
    list of int or None
        None if there is no such template.
    """
    if not isinstance(post_processor, Mapping):
        return None
    steps = post_processor.get("processors")
    if post_processor.get("type") == "Sequence" and isinstance(steps, list):
        found = [ids for ids in map(leading_ids, steps) if ids is not None]
        return [number for ids in found for number in ids] if found else None
    pieces, known = post_processor.get("single"), post_processor.get("special_tokens")
    if not isinstance(pieces, list) or not isinstance(known, Mapping):
        return None
    leading: list[int] = []
    for piece in pieces:
        token = piece.get("SpecialToken") if isinstance(piece, Mapping) else None
        name = token.get("id") if isinstance(token, Mapping) else None
        if not isinstance(name, str):  # the text, which the rest follows
            break
        described = known.get(name)
        ids = described.get("ids") if isinstance(described, Mapping) else None
        leading += ids if isinstance(ids, list) else []
    return leading


def with_leading(content: Mapping[str, Any], tokens: Mapping[str, int]) -> dict[str, Any]:
    """Return a tokenizer.json whose post-processor puts tokens before a text, and nothing else.

    Parameters
    ----------
    content : mapping
        One whose post-processor has no template, or one that is not to be followed.
    tokens : mapping of str to int
        The ids of the tokens, in order.
    """
    return with_around(content, tokens, {})


def with_around(
    content: Mapping[str, Any], before: Mapping[str, int], after: Mapping[str, int]
) -> dict[str, Any]:
    """Return a tokenizer.json whose post-processor puts tokens around a text, and nothing else.

    Parameters
    ----------
    content : mapping
        One whose post-processor has no template, or one that is not to be followed.
    before, after : mapping of str to int
        The ids of the tokens, in order.
    """
    text = {name: {"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")}
    left, right = (
        [{"SpecialToken": {"id": name, "type_id": 0}} for name in tokens]
        for tokens in (before, after)
    )
    template = {
        "type": "TemplateProcessing",
        "single": [*left, text["A"], *right],
        "pair": [*left, text["A"], text["B"], *right],
        "special_tokens": {
            name: {"id": name, "ids": [number], "tokens": [name]}
            for name, number in {**before, **after}.items()
        },
    }
    return {**content, "post_processor": template if before or after else None}
