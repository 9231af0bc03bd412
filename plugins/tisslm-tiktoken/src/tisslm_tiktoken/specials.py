"""Special tokens: texts with an id of their own, which no merge of bytes gives."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from tisslm.errors import ConfigError
from tisslm_tiktoken.ranks import MAX_IDS

__all__ = ["END_OF_TEXT", "SpecialTokens", "add_specials"]

WHERE = "tiktoken tokenizer"

#: Usual names of the token that ends a document; the first that a tokenizer has is taken.
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")

#: The most special tokens; tiktoken's own encodings have up to 1100.
MAX_SPECIALS = 2**14

SpecialTokens = Mapping[str, int] | Sequence[str]


def add_specials(
    ranks: Mapping[bytes, int], known: Mapping[str, int], more: SpecialTokens
) -> dict[str, int]:
    """Return all special tokens with their ids, after checking that these are unique.

    Parameters
    ----------
    ranks : mapping of bytes to int
        The ordinary tokens.
    known : mapping of str to int
        Special tokens of the encoding.
    more : mapping of str to int, or sequence of str
        Further special tokens; those of a sequence get the ids after the largest.

    Raises
    ------
    ConfigError
        If a text or an id is invalid, or belongs to another token.
    """
    first = max([*ranks.values(), *known.values()]) + 1
    if not _are_texts(more):
        raise ConfigError(
            f"{WHERE}: expected special_tokens as at most {MAX_SPECIALS} different texts, with "
            f"their ids or without, got {type(more).__name__} of another kind; write them as "
            f'["{END_OF_TEXT[0]}"], or as a table {{ "{END_OF_TEXT[0]}" = {first} }}'
        )
    if not isinstance(more, Mapping):
        more = {text: first + i for i, text in enumerate(more)}
    specials, taken = dict(known), {*ranks.values(), *known.values()}
    for text, id_ in more.items():
        if not isinstance(id_, int) or isinstance(id_, bool) or not 0 <= id_ < MAX_IDS:
            raise ConfigError(
                f"{WHERE}: expected the id of {text!r:.200} as an integer from 0 to {MAX_IDS - 1}, "
                f"got {id_!r:.200}"
            )
        if specials.get(text) == id_:
            continue
        if text in specials or id_ in taken:
            raise ConfigError(
                f"{WHERE}: expected an id of its own for {text!r:.200}, got {id_}, and one of the "
                f"two is another token's; the first free id is {first}"
            )
        specials[text] = id_
        taken.add(id_)
    _check_prefixes(specials)
    return specials


def _are_texts(names: object) -> bool:
    """Return True if all names are different, not empty, and valid Unicode."""
    if isinstance(names, str) or not isinstance(names, Mapping | Sequence):
        return False
    return (
        all(isinstance(name, str) and name for name in names)
        and len(set(names)) == len(names) <= MAX_SPECIALS
        and not any("\ud800" <= letter <= "\udfff" for name in names for letter in name)
    )


def _check_prefixes(specials: Mapping[str, int]) -> None:
    """Raise an error if one special token is a prefix of another, which would be ambiguous."""
    # what begins with a text comes right after it in the order of code points
    for text, other in itertools.pairwise(sorted(specials)):
        if other.startswith(text):
            raise ConfigError(
                f"{WHERE}: expected special tokens of which none begins another, got {text!r:.200} "
                f"and {other!r}; rename one"
            )
