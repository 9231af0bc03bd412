r"""Where a text may be cut so that encoding its parts separately gives the ids of the whole.

tiktoken first finds special tokens, then takes the rest apart by its pattern, and merges bytes
within a piece only. So a place is safe if no special token and no piece goes across it, and no
piece before it looks beyond it; ``tisslm.tokenizers.cuts`` says why the expressions used here find
such places. The patterns of tiktoken match what those of the Hugging Face library do, where it
comes to white space after a letter or digit. (``\s++$`` looks at the text's end, but only from
white space.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tisslm.tokenizers.cuts import AFTER_ANY, AFTER_WORD
from tisslm_tiktoken.patterns import PATTERNS

__all__ = ["find_cuts"]

#: Where texts may be cut, by the name of an encoding with the pattern.
_PLACES = {"gpt2": AFTER_ANY, "cl100k_base": AFTER_WORD, "o200k_base": AFTER_WORD}


def find_cuts(pattern: str, special_tokens: Iterable[str]) -> re.Pattern[str] | None:
    """Return a regular expression whose matches begin at safe places to cut.

    Parameters
    ----------
    pattern : str
        The regular expression that splits texts.
    special_tokens : iterable of str
        The special tokens that are recognized within a text.

    Returns
    -------
    re.Pattern or None
        None if no safe place is known, for a pattern of the user's own or a special token with
        white space.
    """
    if any(re.search(r"\s", token) for token in special_tokens):
        return None
    return next((cut for name, cut in _PLACES.items() if PATTERNS[name] == pattern), None)
