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
from tisslm.contracts.model import language_model
from tisslm.contracts.part_names import name_of
from tisslm.models.families.gpt2.family import GPT2
from tisslm.models.families.gpt_neox.family import GPTNeoX
from tisslm.models.families.llama.family import Llama
from tisslm.models.families.mistral.family import Mistral
from tisslm.models.families.qwen2.family import Qwen2
from tisslm.models.families.qwen3.family import Qwen3
from tisslm.models.families.transformers import TransformerFamily
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


def both_ways(large: bool) -> TransformerConfig:
    """Return a model whose tokens see later ones, too."""
    return TransformerConfig(**{**other(large).values(), "causal": False, "dropout": 0.2})


#: The families beside GPT-2's.
BUILT_IN: tuple[type[TransformerFamily], ...] = (Llama, Mistral, Qwen2, Qwen3, GPTNeoX)

#: What the small models of the other families have, so that together they have every part.
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "llama": {"n_kv_head": 1, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "mistral": {
        "n_kv_head": 2,
        "window": 4,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "qwen2": {"activation": "geglu", "tie_embeddings": True, "logit_cap": 2.0},
    "qwen3": {"n_kv_head": 1, "head_dim": 6, "mup_base_width": 6, "mup_base_head_dim": 4},
    "gpt_neox": {"rotary_fraction": 0.5},
}


def of_family(name: str, large: bool) -> TransformerConfig:
    """Return a small model of another family than GPT-2's."""
    sizes = {"n_embd": 64, "vocab_size": 203, "seq_len": 80} if large else dict(_SMALL)
    return TransformerConfig(family=name, n_layer=2, n_head=2, **{**sizes, **OTHERS[name]})


_SMALL = {"n_embd": 8, "vocab_size": 11, "seq_len": 9}


def _time(config: ModelConfig, large: bool) -> int:
    return min(config.seq_len, LONGEST if large else 7)


def _built(family: ModelFamily, config: ModelConfig, **how: Any) -> Model:
    return language_model(family.build(config, seed=11, **how), "gradcheck")


def _step(
    dtype: str,
    large: bool,
    family: ModelFamily,
    config: ModelConfig | Callable[[bool], ModelConfig],
    *,
    documents: bool = False,
) -> Problem:
    config = config(large) if callable(config) else config
    make = partial(_built, family, config)
    return StepProblem(make, dtype, _time(config, large), documents=documents)


def _logits(
    dtype: str,
    large: bool,
    family: ModelFamily,
    config: ModelConfig | Callable[[bool], ModelConfig],
) -> Problem:
    config = config(large) if callable(config) else config
    return LogitsProblem(partial(_built, family, config), dtype, _time(config, large))


def model_cases(
    config: ModelConfig | None = None, family: ModelFamily | None = None
) -> Iterator[Case]:
    """Yield a case for each backward path, of tiny transformers or of the given model."""
    if family is None:
        yield from _cases("transformer", GPT2(), gpt2, other)
        for entry in BUILT_IN:
            tiny = partial(of_family, entry.name)
            yield from _cases(entry.name, entry(), tiny, tiny)
        both = partial(_step, family=GPT2(), config=both_ways, documents=True)
        yield Case("transformer_both_ways", "model", both, limit=ELEMENTS)
        return
    name = "transformer" if isinstance(family, GPT2) else name_of(family)
    shape = gpt2 if config is None else config
    yield from _cases(name, family, shape, other if config is None else config)


def _cases(
    name: str,
    family: ModelFamily,
    shape: ModelConfig | Callable[[bool], ModelConfig],
    shape_of_logits: ModelConfig | Callable[[bool], ModelConfig],
) -> Iterator[Case]:
    step = partial(_step, family=family, config=shape)
    logits = partial(_logits, family=family, config=shape_of_logits)
    yield Case(name, "model", step, limit=ELEMENTS)
    if callable(shape) or family.of_shapes(shape).takes_documents:
        documents = partial(step, documents=True)
        yield Case(f"{name}_documents", "model", documents, limit=ELEMENTS)
    yield Case(f"{name}_logits", "model", logits, limit=ELEMENTS)
