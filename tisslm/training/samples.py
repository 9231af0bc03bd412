"""Texts that a model writes while it is trained, so that people see what a loss means."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tisslm.config import TrainingConfig
from tisslm.contracts import Model, Network, Text, Tokenizer
from tisslm.errors import ConfigError, DataError, NonFiniteError
from tisslm.models.generation import Sampling, beginning, pieces, stream

__all__ = ["Sampler", "make_sampler"]

TEMPERATURE, TOP_K = 0.8, 40

#: What stands where a model gives nothing to choose from. Whether its run ends is not for samples
#: to say, but for its losses.
NO_NUMBERS = " (the logits are not finite)"


class Sampler:
    """Continue the prompts of a run, each with random draws of its own at each step.

    A draw is keyed by the run's seed, the step and the number of the prompt. Neither parameters
    nor gradients are written, and no other draw depends on it, so training has the same bits.

    Parameters
    ----------
    model : Model
    tokenizer : Tokenizer
    config : TrainingConfig

    Raises
    ------
    ConfigError
        If the tokenizer cannot read a prompt.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, config: TrainingConfig) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._every, self._length, self._seed = (
            config.sample_every,
            config.sample_tokens,
            config.seed,
        )
        self._prompts = [
            (prompt, _encode(tokenizer, prompt, number))
            for number, prompt in enumerate(config.sample_prompts)
        ]

    def is_due(self, step: int, last: int) -> bool:
        """Tell whether a step is followed by samples: every so many, and the last."""
        return step > 0 and (step % self._every == 0 or step == last)

    def texts(self, step: int, check: Callable[[], None]) -> dict[str, Any]:
        """Return the metrics ``sample/<number of the prompt>``: each prompt with its continuation.

        Parameters
        ----------
        step : int
        check : callable
            Called before each token; what it raises ends the samples.
        """
        found = {}
        for number, (prompt, ids) in enumerate(self._prompts):
            sampling = Sampling(TEMPERATURE, TOP_K, seed=_key(self._seed, step, number))
            new = stream(
                self._model,
                ids,
                self._length,
                sampling,
                n_ids=self._tokenizer.vocab_size,
                ends=self._tokenizer.ends,
            )
            text = prompt
            try:
                for piece in pieces(self._tokenizer, ids, _checked(new, check)):
                    text += piece
            except NonFiniteError:
                text += NO_NUMBERS
            found[f"sample/{number}"] = Text(text)
        return found


def make_sampler(
    model: Network, tokenizer: Tokenizer | None, config: TrainingConfig
) -> Sampler | None:
    """Return the sampler of a run, None if it asks for no samples.

    Raises
    ------
    ConfigError
        If the model or the data cannot give text, or a prompt cannot be read.
    """
    if config.sample_every == 0:
        return None
    if not isinstance(model, Model) or not model.writes_text:
        raise ConfigError(
            "training.sample_every: expected a model that can write text token by token, such as a "
            f"causal Transformer, got {type(model).__name__}; set it to 0"
        )
    if tokenizer is None:
        raise ConfigError(
            "training.sample_every: expected data with a tokenizer, which reads prompts and writes "
            "text, got none; give the Trainer a tokenizer, or set it to 0"
        )
    return Sampler(model, tokenizer, config)


def _encode(tokenizer: Tokenizer, prompt: str, number: int) -> list[int]:
    try:
        return beginning(tokenizer, prompt)
    except DataError as error:
        raise ConfigError(f"training.sample_prompts[{number}]: {error}") from error


def _key(seed: int, step: int, number: int) -> int:
    text = f"sample {seed} {step} {number}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _checked(tokens: Iterable[int], check: Callable[[], None]) -> Iterator[int]:
    for token in tokens:
        check()
        yield token
