"""Elements of HTML: what is not marked as markup is escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from tisslm.errors.visible import visible

__all__ = ["Markup", "data_block", "join", "table", "tag"]

_EMPTY = frozenset({"meta", "link", "br", "img"})


class Markup(str):
    """Text that is markup already, and is not escaped again."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element; children that are no ``Markup`` are escaped.

    An attribute's underscores become hyphens, and one at its end is dropped (``class_``); True is
    an attribute without value, False and None are left out.

    Examples
    --------
    >>> tag("p", "a < b", class_="note", data_step=3)
    '<p class="note" data-step="3">a &lt; b</p>'
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        words.append(attribute if value is True else f'{attribute}="{_text(value)}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if name in _EMPTY else f"{opening}{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Return parts one after the other; those that are no ``Markup`` are escaped."""
    return Markup("".join(p if isinstance(p, Markup) else _text(p) for p in parts))


def _text(value: object) -> str:
    """Return a value as text of a page, which acts in no way: not as markup, nor by its marks."""
    return escape(visible(str(value)))


def table(caption: str, head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """Return a table in a box that scrolls; the first cell of a row is its heading."""
    heading = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = (
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in rows
    )
    inner = tag("table", tag("caption", caption), tag("thead", heading), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def data_block(identity: str, value: Any) -> Markup:
    """Return data for the page's script, as JSON; nothing in it ends the element.

    Floats are given four digits, and those that are not finite are null; texts are visible.
    """
    text = json.dumps(_short(value), separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return tag("script", Markup(safe), type="application/json", id=identity)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        short = float(f"{value:.4g}")
        if value.is_integer() and abs(value) < 2**53:
            return int(value)
        return short if math.isfinite(short) else value
    if isinstance(value, dict):
        return {_short(key): _short(item) for key, item in value.items()}
    if isinstance(value, str):
        return visible(value)
    return [_short(item) for item in value] if isinstance(value, list | tuple) else value
