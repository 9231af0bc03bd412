"""Whole models as problems for the gradient checks: every parameter, by both backward paths.

Single sublayers are in ``layers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.config.model import TransformerConfig
from tisslm.contracts import Batch, Model, ModelConfig, ModelFamily
from tisslm.contracts.part_names import name_of
from tisslm.models.families.gpt2.family import GPT2
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.testing.gradients.layers import fresh_gradients, gradients_of
from tisslm.testing.gradients.losses import targets_and_weights
from tisslm.testing.gradients.problem import Case, Problem, draw, draw_values, starts

__all__ = ["LogitsProblem", "StepProblem", "model_cases"]

Array = NDArray[Any]

#: Elements of each parameter that are compared one by one, beside a direction that moves all.
ELEMENTS = 4

#: The longest sequence of a pass; attention beyond it only costs time.
LONGEST = 70


#: Makes the model of a problem: its family's ``build`` with all but the data type.
Make = Callable[..., Model]


def tokens(vocab_size: int, batch: int, time: int, name: str) -> Array:
    """Draw token ids of shape (B, T)."""
    rng = np.random.default_rng(abs(int(1e6 * draw(name, (1,))[0])))
    return rng.integers(0, vocab_size, (batch, time), dtype=np.int32)


@final
class StepProblem(Problem):
    """The loss of two micro-batches of different length, computed by ``step_loss``.

    Parameters
    ----------
    make : callable
        Given ``dtype``, returns the model; dropout is applied.
    dtype : str
    time : int
        T of the longer micro-batch.
    documents : bool
        Whether rows hold several documents.
    """

    def __init__(self, make: Make, dtype: str, time: int, *, documents: bool = False) -> None:
        self.model = make(dtype=dtype)
        vocab_size = self.model.vocab_size
        draw_values(self.model.parameters)
        self.values = {p.name: p.data for p in self.model.parameters}
        self.batches = []
        for batch, length in ((2, time), (1, max(1, time - 2))):
            aims, counts = targets_and_weights(batch * length, vocab_size, dtype)
            x = tokens(vocab_size, batch, length, "inputs")
            start = starts(batch, length) if documents else None
            self.batches.append(Batch(x, aims.reshape(x.shape), counts.reshape(x.shape), start))

    def weights(self, name: str, like: Array) -> Array:
        """Return one, the weight of the loss."""
        return np.ones_like(like)

    def _run(self, gradient: bool) -> float:
        long, short = self.batches
        step, loss = self.model.step_loss, CrossEntropy()
        total = step(long, loss, gradient=gradient)
        return total + step(short, loss, gradient=gradient, first_row=len(long.x_BT))

    def outputs(self) -> Mapping[str, Array]:
        """Return the loss."""
        return {"loss": np.asarray(self._run(False))}

    def gradients(self) -> Mapping[str, Array]:
        """Run both micro-batches, the second adding to the gradients of the first."""
        fresh_gradients(self.model.parameters)
        self._run(True)
        return gradients_of(self.model.parameters)


@final
class LogitsProblem(Problem):
    """All logits, computed by ``forward`` and ``backward`` as in a custom loop.

    Parameters
    ----------
    make : callable
        Given ``dtype``, returns the model; dropout is not applied.
    dtype : str
    time : int
        T of the batch.
    """

    def __init__(self, make: Make, dtype: str, time: int) -> None:
        self.model = make(dtype=dtype)
        draw_values(self.model.parameters)
        self.values = {p.name: p.data for p in self.model.parameters}
        self.x = tokens(self.model.vocab_size, 2, time, "inputs")

    def outputs(self) -> Mapping[str, Array]:
        """Return the logits."""
        return {"logits": self.model.forward(self.x)[0]}

    def gradients(self) -> Mapping[str, Array]:
        """Run forward and backward."""
        fresh_gradients(self.model.parameters)
        logits, cache = self.model.forward(self.x)
        self.model.backward(self.weights("logits", logits), cache)
        return gradients_of(self.model.parameters)


def gpt2(large: bool) -> TransformerConfig:
    """Return a model of the GPT-2 family: with biases, tied embeddings and dropout."""
    sizes = (64, 203, 80) if large else (8, 11, 9)
    channels, vocab, seq_len = sizes
    return TransformerConfig(
        n_layer=2,
        n_head=2,
        n_embd=channels,
        vocab_size=vocab,
        seq_len=seq_len,
        dropout=0.2,
    )


def other(large: bool) -> TransformerConfig:
    """Return a model with every option that ``gpt2`` lacks."""
    sizes = (64, 203, 80) if large else (8, 11, 9)
    channels, vocab, seq_len = sizes
    return TransformerConfig(
        n_layer=2,
        n_head=4,
        n_kv_head=2,
        n_embd=channels,
        vocab_size=vocab,
        seq_len=seq_len,
        bias=False,
        activation="gelu_tanh",
        tie_embeddings=False,
    )


def _time(config: ModelConfig, large: bool) -> int:
    return min(config.seq_len, LONGEST if large else 7)


def _step(
    dtype: str,
    large: bool,
    family: ModelFamily,
    config: ModelConfig | None,
    *,
    documents: bool = False,
) -> Problem:
    config = gpt2(large) if config is None else config
    make = partial(family.build, config, seed=11)
    return StepProblem(make, dtype, _time(config, large), documents=documents)


def _logits(dtype: str, large: bool, family: ModelFamily, config: ModelConfig | None) -> Problem:
    config = other(large) if config is None else config
    return LogitsProblem(partial(family.build, config, seed=11), dtype, _time(config, large))


def model_cases(
    config: ModelConfig | None = None, family: ModelFamily | None = None
) -> Iterator[Case]:
    """Yield a case for each backward path, of a tiny Transformer or of the given model."""
    family = GPT2() if family is None else family
    name = "transformer" if isinstance(family, GPT2) else name_of(family)
    step = partial(_step, family=family, config=config)
    logits = partial(_logits, family=family, config=config)
    yield Case(name, "model", step, limit=ELEMENTS)
    if config is None or family.of_shapes(config).takes_documents:
        documents = partial(step, documents=True)
        yield Case(f"{name}_documents", "model", documents, limit=ELEMENTS)
    yield Case(f"{name}_logits", "model", logits, limit=ELEMENTS)
