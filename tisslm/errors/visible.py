r"""Text for a terminal: characters that act are shown as ``\x1b``, not done.

A file, a name or a model may say anything: an escape sequence that sets a title or moves the
cursor, a mark that turns the direction of writing, a carriage return that writes over the line.
Whoever prints such a text makes it visible first.
"""

from __future__ import annotations

import re

__all__ = ["escaped", "visible"]

# Controls of ASCII and beyond it but for tab and line's end (CR LF is one), and what acts without
# being seen: soft hyphens, marks of direction, ends of lines and paragraphs, characters without
# width, halves of surrogates, notes, tags. The two joiners (U+200C, U+200D) make letters and emoji.
_ACTS = re.compile(
    "\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""Return a text in which no character acts on a terminal; tabs and ends of lines are kept.

    Each other control character, escape, mark of direction and the like becomes its escape in
    Python: ``\x1b``, ``\u202e``. Backslashes stay as they are, so a text that is visible already is
    returned as it is.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> print(visible("\x1b[31mred"))
    \x1b[31mred
    """
    if text.isprintable():
        return text
    return _ACTS.sub(lambda found: escaped(found[0]), text)


def escaped(character: str) -> str:
    """Return the escape in Python of a character that cannot be printed."""
    return character.encode("unicode_escape").decode("ascii")
