"""What a model writes after a prompt, as text, from token ids that arrive one by one.

What does not live here: how the ids are chosen (``tisslm.generate``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tisslm.contracts import Model, Tokenizer
from tisslm.errors import DataError
from tisslm.generate import Sampling, stream

__all__ = ["opening", "pieces", "sample"]

#: What a decoder puts where bytes are no UTF-8, or not yet.
INCOMPLETE = "\ufffd"


def opening(tokenizer: Tokenizer) -> list[int]:
    """Return the ids to begin with when there is no prompt.

    The end of a text, after which another begins; where the tokenizer has no such token, a line's
    end, or else the first id.
    """
    end = tokenizer.end_of_text
    if end is not None:
        return [end]
    try:
        return tokenizer.encode("\n") or [0]
    except DataError:
        return [0]


def pieces(tokenizer: Tokenizer, prompt: Sequence[int], new: Iterable[int]) -> Iterator[str]:
    """Yield the text of new ids as soon as it is certain; together it is all of it.

    Each piece is what an id adds to the text of the ids just before it, because some tokenizers
    write an id differently at the start of a text. A character of several tokens waits for the
    last one.

    Parameters
    ----------
    tokenizer : Tokenizer
    prompt : sequence of int
        What the new ids follow.
    new : iterable of int
    """
    ids = list(prompt)
    start, done = 0, len(ids)
    known = tokenizer.decode(ids)
    text = known
    for token in new:
        ids.append(token)
        text = tokenizer.decode(ids[start:])
        if len(text) > len(known) and not text.endswith(INCOMPLETE):
            yield text[len(known) :]
            start, done = done, len(ids)
            text = known = tokenizer.decode(ids[start:])
    if len(text) > len(known):
        yield text[len(known) :]


def sample(
    model: Model,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    sampling: Sampling,
) -> Iterator[str]:
    """Yield the text that a model writes after a prompt, piece by piece, without the prompt."""
    ids = tokenizer.encode(prompt) if prompt else opening(tokenizer)
    new = stream(model, ids, max_new_tokens, sampling, n_ids=tokenizer.vocab_size)
    return pieces(tokenizer, ids, new)
