"""Several prompts that a model goes on with at once, token by token, each to its own end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from time import perf_counter
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Decoder, Model
from tisslm.errors import ConfigError, DataError, NonFiniteError
from tisslm.models.generation.sampling import Sampling

__all__ = ["Generation", "generate", "stream"]

Array = NDArray[Any]


@final
class Generation:
    """New tokens of several prompts, which are decoded together: one step is one token of each.

    The tokens of a prompt are those that it gets alone. It ends by an id of ``ends``, after
    ``max_new_tokens``, or when ``end`` is called.

    Parameters
    ----------
    model : Model
        One that ``writes_text``.
    prompts : sequence of sequences of int
        At least one id each. Of one that is longer than ``model.seq_len``, only the end is used.
    max_new_tokens : int
    samplings : sequence of Sampling
        One for each prompt.
    n_ids : int, optional
        Only ids below it are chosen: a model may have more ids than its tokenizer.
    ends : collection of int
        Ids that end a text, and are no part of it.
    decoder : Decoder, optional
        One of the model, which is started anew; left out, ``model.decoder()``.

    Attributes
    ----------
    prompt_tokens, new_tokens : int
        How many tokens were read, and how many were chosen, those that end a text included.
    prompt_seconds, new_seconds : float
        How long reading the prompts took, and how long all steps after the first choice.

    Raises
    ------
    DataError, ConfigError
        If a prompt is empty, or a number does not fit.
    NonFiniteError
        While it runs, if the model gives no logits to choose from.

    Notes
    -----
    A context that is full is computed again from its last half, so that the cost per token stays
    bounded; the other prompts stay as they are.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        samplings: Sequence[Sampling],
        *,
        n_ids: int | None = None,
        ends: Collection[int] = (),
        decoder: Decoder | None = None,
    ) -> None:
        if any(len(prompt) == 0 for prompt in prompts) or not prompts:
            raise DataError("generate: the prompt is empty; give at least one token")
        if max_new_tokens < 0:
            raise ConfigError(f"max_new_tokens: expected an integer >= 0, got {max_new_tokens}")
        if len(samplings) != len(prompts):
            raise ConfigError(
                f"samplings: expected one for each of the {len(prompts)} prompts, got "
                f"{len(samplings)}"
            )
        self._texts = [[int(i) for i in prompt] for prompt in prompts]
        self._first = [max(0, len(text) - model.seq_len) for text in self._texts]
        self._left = max_new_tokens
        self._going = [True] * len(prompts)
        self._samplings = samplings
        self._generators = [np.random.Generator(np.random.Philox(key=s.seed)) for s in samplings]
        self._n_ids = n_ids
        self._ends = frozenset(ends)
        self._half = max(1, model.seq_len // 2)
        self._decoder = model.decoder() if decoder is None else decoder
        start = perf_counter()
        self._logits_BV = self._prefill()
        self.prompt_seconds, self.new_seconds = perf_counter() - start, 0.0
        self.prompt_tokens = sum(map(len, self._texts)) - sum(self._first)
        self.new_tokens = 0

    def _prefill(self) -> Array:
        contexts = [text[first:] for text, first in zip(self._texts, self._first, strict=True)]
        lengths = np.array([len(context) for context in contexts], np.int32)
        tokens_BT = np.zeros((len(contexts), lengths.max()), np.int64)
        for row, context in zip(tokens_BT, contexts, strict=True):
            row[: len(context)] = context
        return self._decoder.prefill(tokens_BT, lengths)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the new ids in the order in which they are chosen: (number of the prompt, id)."""
        while self._left > 0 and any(self._going):
            self._left -= 1
            for row, going in enumerate(self._going):
                if going:
                    token = self._choose(row)
                    if token in self._ends:
                        self.end(row)
                    else:
                        yield row, token
            if self._left > 0 and any(self._going):
                start = perf_counter()
                self._step()
                self.new_seconds += perf_counter() - start

    def end(self, row: int) -> None:
        """Let a text end here, whatever the reason."""
        self._going[row] = False

    def _choose(self, row: int) -> int:
        start = perf_counter()
        text, uniform = self._texts[row], float(self._generators[row].random())
        sampling = self._samplings[row]
        earlier = text if sampling.repetition_penalty != 1.0 else ()
        logits_V = self._logits_BV[row, : self._n_ids]
        if not np.isfinite(logits_V.max()):
            raise NonFiniteError(
                f"expected logits that are numbers, got {logits_V.max()} among those of token "
                f"{len(text) + 1}; the model's weights are damaged, or beyond what its type can "
                "hold: take an earlier checkpoint, or publish the model anew"
            )
        token = sampling.choose(logits_V, uniform, earlier)
        text.append(token)
        self.new_tokens += 1
        self.new_seconds += perf_counter() - start
        return token

    def _step(self) -> None:
        """Compute the logits after the last token of each text that goes on."""
        decoder, going_B = self._decoder, np.array(self._going)
        again_B = decoder.full_B & going_B
        step_B = going_B & ~again_B
        restarted = {}
        for row in np.flatnonzero(again_B):
            text = self._texts[row]
            self._first[row] = len(text) - self._half
            restarted[row] = decoder.restart(int(row), np.array(text[-self._half :], np.int64))
        if step_B.any():
            last_B = np.array([text[-1] for text in self._texts])
            self._logits_BV = decoder.step(np.where(step_B, last_B, -1))
        for row, logits_V in restarted.items():
            self._logits_BV[row] = logits_V


def stream(
    model: Model,
    prompt: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling,
    *,
    n_ids: int | None = None,
    ends: Collection[int] = (),
    decoder: Decoder | None = None,
) -> Iterator[int]:
    """Yield new token ids one by one.

    Parameters
    ----------
    model, max_new_tokens, n_ids, ends, decoder
        As for ``Generation``.
    prompt : sequence of int
    sampling : Sampling
    """
    running = Generation(
        model, [prompt], max_new_tokens, [sampling], n_ids=n_ids, ends=ends, decoder=decoder
    )
    for _, token in running:
        yield token


def generate(
    model: Model,
    prompt: Sequence[int],
    max_new_tokens: int = 200,
    sampling: Sampling | None = None,
    *,
    n_ids: int | None = None,
    ends: Collection[int] = (),
    decoder: Decoder | None = None,
) -> list[int]:
    """Return the new token ids as a list; the arguments are those of ``stream``."""
    sampling = sampling or Sampling()
    found = stream(model, prompt, max_new_tokens, sampling, n_ids=n_ids, ends=ends, decoder=decoder)
    return list(found)
