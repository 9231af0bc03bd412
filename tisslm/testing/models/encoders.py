"""Conformance checks of models that make vectors of texts, by ``tisslm.contracts.Encoder``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Encoder, ModelConfig, ModelFamily
from tisslm.contracts.embedding import TextBatch
from tisslm.errors import ShapeError
from tisslm.testing.checks import Checks
from tisslm.testing.models.brought import reads_what_it_asks_for

__all__ = ["ENCODER"]

FloatArray = NDArray[Any]

#: Step of the central difference; its error is of the order of the square.
STEP = 1e-5


def vectors_are_of_the_size_that_is_said(
    checks: Checks, family: ModelFamily, config: ModelConfig
) -> None:
    """Check shape, type and length of vectors, and that a cache comes only where it is needed."""
    for dtype in ("float32", "float64"):
        encoder = _built(family, config, dtype=dtype)
        texts = _packed(encoder)
        vectors_PE, cache = encoder.embed(texts)
        checks.same(vectors_PE.shape, (len(texts.first_P), encoder.embedding_size), "vectors")
        checks.same(str(vectors_PE.dtype), dtype, "the type of the vectors")
        checks.that(cache is None, "no cache without gradient", type(cache).__name__)
        checks.finite(vectors_PE, "vectors")
        if encoder.normalized:
            lengths_P = np.linalg.norm(vectors_PE, axis=1)
            checks.close(lengths_P, np.ones_like(lengths_P), "lengths of the vectors", 1e-6)


def a_vector_is_of_its_text_alone(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that neither the texts beside it nor its place changes the vector of a text."""
    encoder = _built(family, config, dtype="float64")
    texts = _texts(encoder)
    together_PE = encoder.embed(TextBatch.pack(texts, encoder.seq_len))[0].copy()
    for text, vector_E in zip(texts, together_PE, strict=True):
        alone_PE, _ = encoder.embed(TextBatch.pack([text], encoder.seq_len))
        checks.close(alone_PE[0], vector_E, "the vector of a text beside others", 1e-9)
    other_E = encoder.embed(TextBatch.pack([texts[0][:1]], encoder.seq_len))[0][0]
    moved = float(np.abs(other_E - together_PE[0]).max())
    checks.that(moved > 0, "another vector of another text", "the same")


def passes_repeat_their_bits(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that the second pass over the same texts has the bits of the first."""
    encoder = _built(family, config)
    texts = _packed(encoder)
    first_PE = encoder.embed(texts, train=True, first_row=4)[0].copy()
    second_PE, cache = encoder.embed(texts, train=True, gradient=True, first_row=4)
    checks.same(second_PE, first_PE, "the bits of the pass that a backward follows")
    checks.that(cache is not None, "a cache with gradient", "None")


def gradients_are_slopes(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check ``backward_embedded`` against a central difference along a random direction."""
    encoder = _built(family, config, dtype="float64")
    texts, rng = _packed(encoder), np.random.default_rng(7)
    weights_PE = rng.normal(size=(len(texts.first_P), encoder.embedding_size))
    encoder.parameters.zero_grad()
    _backward(encoder, texts, weights_PE)
    trained = [p for p in encoder.parameters if p is not encoder.logit_scale]
    moves = [rng.normal(size=p.shape) for p in trained]
    slope = sum(float((p.grad * move).sum()) for p, move in zip(trained, moves, strict=True))
    values = []
    for step in (STEP, -2 * STEP, STEP):  # there, to the other side, and back
        for parameter, move in zip(trained, moves, strict=True):
            parameter.data[...] += step * move
        values.append(float((encoder.embed(texts)[0] * weights_PE).sum()))
    difference = (values[0] - values[1]) / (2 * STEP)
    checks.close(slope, difference, "the slope that backward_embedded says", 1e-5)
    once = np.array(encoder.parameters.grad)
    checks.that(bool(once.any()), "a gradient that is not zero", "zeros")


def gradients_of_vectors_are_added(
    checks: Checks, family: ModelFamily, config: ModelConfig
) -> None:
    """Check that a second backward adds to the gradients of the first."""
    encoder = _built(family, config, dtype="float64")
    texts = _packed(encoder)
    weights_PE = np.ones((len(texts.first_P), encoder.embedding_size))
    encoder.parameters.zero_grad()
    _backward(encoder, texts, weights_PE)
    once = np.array(encoder.parameters.grad)
    _backward(encoder, texts, weights_PE)
    checks.close(encoder.parameters.grad, 2 * once, "gradients of two passes", 1e-12)


def values_are_asked_for(checks: Checks, family: ModelFamily, config: ModelConfig) -> None:
    """Check that a model which says so reads no values but those that it asks for in each pass."""
    encoder = _built(family, config)
    texts = _packed(encoder)
    weights_PE = np.ones((len(texts.first_P), encoder.embedding_size), np.float32)

    def embed() -> Any:
        return encoder.embed(texts)[0].copy()

    def gradient() -> Any:
        encoder.parameters.zero_grad()
        _backward(encoder, texts, weights_PE)
        return np.array(encoder.parameters.grad)

    reads_what_it_asks_for(checks, encoder, (embed, gradient, embed))


def _built(family: ModelFamily, config: ModelConfig, dtype: str = "float32") -> Encoder:
    encoder = family.build(config, seed=3, dtype=dtype)
    if not isinstance(encoder, Encoder):
        raise ShapeError(f"check_model: expected an encoder, got {type(encoder).__name__}")
    return encoder


def _texts(encoder: Encoder) -> Sequence[NDArray[np.int32]]:
    """Return texts of several lengths, so that some share a row, and one fills its own."""
    rng, longest = np.random.default_rng(3), encoder.seq_len
    lengths = (max(2, longest // 2), 1, max(1, longest // 3), longest)
    return [rng.integers(0, encoder.vocab_size, n).astype(np.int32) for n in lengths]


def _packed(encoder: Encoder) -> TextBatch:
    return TextBatch.pack(_texts(encoder), encoder.seq_len)


def _backward(encoder: Encoder, texts: TextBatch, d_vectors_PE: FloatArray) -> None:
    """Add the gradient of ``(vectors_PE * d_vectors_PE).sum()``."""
    _, cache = encoder.embed(texts, gradient=True)
    encoder.backward_embedded(d_vectors_PE.astype(encoder.dtype), cache)


#: What holds of every encoder.
ENCODER: tuple[Callable[[Checks, ModelFamily, ModelConfig], None], ...] = (
    vectors_are_of_the_size_that_is_said,
    a_vector_is_of_its_text_alone,
    passes_repeat_their_bits,
    gradients_are_slopes,
    gradients_of_vectors_are_added,
    values_are_asked_for,
)
