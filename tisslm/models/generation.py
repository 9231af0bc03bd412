"""Generating text: sampling tokens one by one, and decoding them to text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Model, Tokenizer
from tisslm.errors import ConfigError, DataError

__all__ = [
    "Sampling",
    "generate",
    "opening",
    "pieces",
    "sample",
    "stream",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen from the logits.

    Parameters
    ----------
    temperature : float
        Divisor of the logits; 0 always takes the most probable token.
    top_k : int
        Only the k most probable tokens are kept; 0 keeps all.
    top_p : float
        Only the most probable tokens that together reach this probability are kept; 1 keeps all.
    seed : int
        Key of the random numbers, from 0 to 2^64 - 1.

    References
    ----------
    Fan, Lewis and Dauphin, "Hierarchical Neural Story Generation", arXiv 1805.04833 (top-k).
    Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv 1904.09751 (top-p).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 42

    def __post_init__(self) -> None:
        if not self.temperature >= 0.0:
            raise ConfigError(f"temperature: expected a number >= 0, got {self.temperature!r}")
        if self.top_k < 0:
            raise ConfigError(f"top_k: expected an integer >= 0, got {self.top_k!r}")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"top_p: expected a number in (0, 1], got {self.top_p!r}")
        seed: object = self.seed  # from a caller, it may be anything
        if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= int(seed) < 2**64:
            raise ConfigError(f"seed: expected an integer from 0 to 2^64 - 1, got {seed!r}")

    def choose(self, logits_V: Array, uniform: float) -> int:
        """Return the token that a uniform random number in [0, 1) selects."""
        if self.temperature == 0.0:
            return int(np.argmax(logits_V))
        scaled = logits_V.astype(np.float64) / self.temperature
        order = np.argsort(-scaled, kind="stable")
        if self.top_k:
            order = order[: self.top_k]
        weights = np.exp(scaled[order] - scaled[order[0]])
        cumulative = np.cumsum(weights / weights.sum())
        last = int(np.searchsorted(cumulative, self.top_p)) + 1
        cumulative = cumulative[:last] / cumulative[min(last, len(cumulative)) - 1]
        picked = int(np.searchsorted(cumulative, uniform, side="right"))
        return int(order[min(picked, len(cumulative) - 1)])


def stream(
    model: Model,
    prompt: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling,
    *,
    n_ids: int | None = None,
) -> Iterator[int]:
    """Yield new token ids one by one.

    Parameters
    ----------
    model : Model
        One that ``writes_text``.
    prompt : sequence of int
        At least one id. If it is longer than ``model.seq_len``, only its end is used.
    max_new_tokens : int
    sampling : Sampling
    n_ids : int, optional
        Only ids below it are chosen: a model may have more ids than its tokenizer.

    Notes
    -----
    When the context is full, it is computed again from its last half, so that the cost per token
    stays bounded.
    """
    if len(prompt) == 0:
        raise DataError("generate: the prompt is empty; give at least one token")
    if max_new_tokens < 0:
        raise ConfigError(f"max_new_tokens: expected an integer >= 0, got {max_new_tokens}")
    generator = np.random.Generator(np.random.Philox(key=sampling.seed))
    decoder = model.decoder()
    context = [int(i) for i in prompt][-model.seq_len :]
    logits = decoder.prefill(np.array([context], dtype=np.int64))
    for n in range(max_new_tokens):
        token = sampling.choose(logits[0, :n_ids], float(generator.random()))
        context.append(token)
        yield token
        if n + 1 == max_new_tokens:
            return
        if decoder.full:
            context = context[-max(1, model.seq_len // 2) :]
            logits = decoder.prefill(np.array([context], dtype=np.int64))
        else:
            logits = decoder.step(np.array([token]))


def generate(
    model: Model,
    prompt: Sequence[int],
    max_new_tokens: int = 200,
    sampling: Sampling | None = None,
    *,
    n_ids: int | None = None,
) -> list[int]:
    """Return the new token ids as a list; the arguments are those of ``stream``."""
    return list(stream(model, prompt, max_new_tokens, sampling or Sampling(), n_ids=n_ids))


#: The character that a decoder writes for invalid or incomplete UTF-8.
INCOMPLETE = "\ufffd"


def opening(tokenizer: Tokenizer) -> list[int]:
    """Return the ids to begin with if there is no prompt.

    They are what the tokenizer puts before a text, or else the end of text, after which a new text
    begins; if the tokenizer has no such token, a line feed, or else the first id.
    """
    if tokenizer.begin:
        return list(tokenizer.begin)
    end = tokenizer.end_of_text
    if end is not None:
        return [end]
    try:
        return tokenizer.encode("\n") or [0]
    except DataError:
        return [0]


def pieces(tokenizer: Tokenizer, prompt: Sequence[int], new: Iterable[int]) -> Iterator[str]:
    """Yield the text of new ids as soon as it is certain; joined, the pieces are the whole text.

    Each piece is the text that an id adds to that of the ids just before it, because some
    tokenizers decode an id differently at the start of a text. A character of several tokens is
    yielded after the last one.

    Parameters
    ----------
    tokenizer : Tokenizer
    prompt : sequence of int
        The ids before the new ones.
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
    """Yield the text that a model generates after a prompt, in pieces, without the prompt."""
    ids = [*tokenizer.begin, *tokenizer.encode(prompt)] if prompt else opening(tokenizer)
    new = stream(model, ids, max_new_tokens, sampling, n_ids=tokenizer.vocab_size)
    return pieces(tokenizer, ids, new)
