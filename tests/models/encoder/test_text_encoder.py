"""The encoder: gradients of every kind, texts that do not see each other, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from embedding_runs import VOCAB, shape_of
from tolerances import GRADIENT_CHECK, WHOLE_MODEL, largest_error

from tisslm.config.model import TransformerConfig
from tisslm.contracts import PassObserver, TextBatch
from tisslm.errors import ConfigError, ShapeError
from tisslm.memory import Parameters
from tisslm.memory.freezing import freeze
from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.models.initialization import parameter_specs
from tisslm.models.transformer import Transformer

LENGTHS = (5, 1, 9, 3, 7, 2)


def texts_of(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCAB, size=n).astype(np.int32) for n in lengths]


def pack(model: TextEncoder, texts: list[np.ndarray]) -> TextBatch:
    return TextBatch.pack(texts, model.seq_len)


KINDS: list[dict[str, Any]] = [
    {"pooling": "mean"},
    {"pooling": "last", "projection": 6},
    {"pooling": "mean", "causal": False},
    {"pooling": "last", "causal": False, "family": "qwen3", "n_kv_head": 1},
    {"pooling": "max", "normalize": False},
    {"pooling": "mean", "projection": 6, "family": "qwen3", "n_kv_head": 1},
    {"pooling": "max", "projection": 40, "normalize": False, "parallel_residual": True},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_of_the_whole_encoder_are_the_differences(kind: dict[str, Any]) -> None:
    config = shape_of(**{"n_layer": 1, "n_embd": 8, **kind})
    model = TextEncoder(config, seed=2, dtype="float64")
    rng = np.random.default_rng(4)
    for parameter in model.parameters:
        parameter.data[...] += 0.1 * rng.standard_normal(parameter.shape)
    batch = pack(model, texts_of(*LENGTHS))
    d_PE = rng.standard_normal((len(LENGTHS), model.embedding_size))

    def value() -> float:
        return float((model.embed(batch)[0] * d_PE).sum())

    model.parameters.zero_grad()
    model.backward_embedded(d_PE, model.embed(batch, gradient=True)[1])
    for parameter in model.parameters:
        direction = rng.standard_normal(parameter.shape)
        kept, step = parameter.data.copy(), 1e-5
        parameter.data[...] = kept + step * direction
        above = value()
        parameter.data[...] = kept - step * direction
        slope = (above - value()) / (2 * step)
        parameter.data[...] = kept
        found = float((parameter.grad * direction).sum())
        assert abs(found - slope) <= GRADIENT_CHECK * max(1.0, abs(slope)), parameter.name


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_float32_and_half_precision_are_near_the_twin(kind: dict[str, Any], precision: str) -> None:
    config = shape_of(**kind)
    model, twin = TextEncoder(config, seed=2), TextEncoder(config, seed=2, dtype="float64")
    model.prepare(precision=precision)
    batch = pack(model, texts_of(*LENGTHS))
    found, expected = model.embed(batch)[0], twin.embed(batch)[0]
    assert (found.dtype, found.shape) == (np.float32, (len(LENGTHS), config.embedding_size))
    # bfloat16 keeps 8 bits, and a text's rows are summed: a few units in the last place
    tolerance = {"fp32": WHOLE_MODEL, "fp16": 5e-3, "bf16": 4e-2}[precision]
    assert largest_error(found, expected) < tolerance


def test_vectors_are_of_unit_length_unless_they_are_not_normalized() -> None:
    batch = TextBatch.pack(texts_of(*LENGTHS), 20)
    lengths = np.linalg.norm(TextEncoder(shape_of()).embed(batch)[0], axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-6)
    others = np.linalg.norm(TextEncoder(shape_of(normalize=False)).embed(batch)[0], axis=1)
    assert (abs(others - 1.0) > 0.1).all()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_vector_depends_on_its_text_alone(kind: dict[str, Any]) -> None:
    model = TextEncoder(shape_of(**kind), seed=2, dtype="float64")
    texts = texts_of(*LENGTHS)
    together = model.embed(pack(model, texts))[0]
    turned = model.embed(pack(model, texts[::-1]))[0][::-1]
    alone = np.concatenate([model.embed(pack(model, [text]))[0] for text in texts])
    assert largest_error(together, alone) < 1e-12  # rows of other products, in float64
    assert largest_error(turned, alone) < 1e-12


def test_dropout_is_keyed_by_the_first_row() -> None:
    model = TextEncoder(shape_of(dropout=0.3), seed=2)
    batch = pack(model, texts_of(*LENGTHS))
    first = model.embed(batch, train=True, first_row=4)[0]
    again = model.embed(batch, train=True, first_row=4, gradient=True)[0]
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != model.embed(batch, train=True, first_row=5)[0].tobytes()
    assert first.tobytes() != model.embed(batch)[0].tobytes()


def test_recomputing_blocks_changes_no_bit() -> None:
    found = []
    for checkpointing in ("none", "full"):
        model = TextEncoder(shape_of(dropout=0.3, projection=5), seed=2)
        model.prepare(activation_checkpointing=checkpointing)
        embedded, cache = model.embed(pack(model, texts_of(*LENGTHS)), train=True, gradient=True)
        model.parameters.zero_grad()
        model.backward_embedded(embedded + 1, cache)
        found.append(model.parameters.grad.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recomputed", ["none", "full"])
@pytest.mark.parametrize("kind", [{}, *KINDS[3:]], ids=str)
def test_padding_behind_the_last_text_is_not_computed_and_changes_no_bit(
    kind: dict[str, Any], recomputed: str, precision: str
) -> None:
    """Whoever observes a pass has all rows computed; here they find NaN, or what the last left."""
    config = shape_of(**{"dropout": 0.2, "pooling": "mean", **kind})
    d_PE = np.random.default_rng(1).standard_normal((len(LENGTHS), config.embedding_size))
    found = []
    for observers in [(), (PassObserver(),)]:
        model = TextEncoder(config, seed=2)
        model.prepare(precision=precision, activation_checkpointing=recomputed)
        batch = pack(model, texts_of(*LENGTHS))
        assert batch.stop_P.max() < batch.x_BT.size
        buffers = model.body.buffers(*batch.x_BT.shape)
        for part in [*buffers.saved, *buffers.scratch]:
            for array in part.values():
                array.reshape(-1).view(np.uint8)[...] = 255  # NaN, in any type
        model.observers = observers
        vectors_PE, cache = model.embed(batch, train=True, gradient=True)
        assert cache is not None
        assert cache.ctx.rows == (batch.x_BT.size if observers else batch.stop_P.max())
        model.backward_embedded(d_PE.astype(np.float32), cache)
        found.append((vectors_PE, model.parameters.grad))
    for some, all_rows in zip(*found, strict=True):
        assert np.isfinite(some).all()
        np.testing.assert_array_equal(some, all_rows)  # but for the sign of zeros


def test_a_plan_is_what_a_pass_takes() -> None:
    model = TextEncoder(shape_of(), seed=2)
    batch = pack(model, texts_of(*LENGTHS))
    model.embed(batch)
    assert dict(model.plan(*batch.x_BT.shape)) == model.body.memory.workspace.sizes
    assert dict(TextEncoder.of_shapes(model.config).plan(2, 20)) == dict(model.plan(2, 20))
    assert "logits" not in model.plan(2, 20)


def test_the_learned_temperature_is_a_parameter_without_decay() -> None:
    scale = TextEncoder(shape_of(logit_scale=20.0)).logit_scale
    assert scale is not None
    assert (scale.decay, scale.shape) == (False, (1,))
    assert float(scale.data[0]) == pytest.approx(np.log(20.0))
    assert TextEncoder(shape_of()).logit_scale is None


def test_a_cache_of_another_pass_is_refused() -> None:
    model = TextEncoder(shape_of(), seed=2)
    batch = pack(model, texts_of(*LENGTHS))
    embedded, cache = model.embed(batch, gradient=True)
    with pytest.raises(ShapeError, match=r"expected d_embeddings of shape \(6, 16\) float32"):
        model.backward_embedded(embedded[:2], cache)
    model.embed(batch)
    with pytest.raises(ShapeError, match=r"model\.backward_embedded: this cache is stale"):
        model.backward_embedded(embedded, cache)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "cls"}, "model.pooling: expected one of none, mean, last, max, got 'cls'"),
        ({"pooling": "none", "projection": 4}, "model.projection: 4 is for models of texts'"),
        ({"logit_cap": 3.0}, "model.logit_cap: expected 0, since a model with pooling"),
        ({"logit_scale": 1e9}, "model.logit_scale: expected 0, which learns none, or a number"),
        ({"projection": -1}, "model.projection: expected an integer >= 0"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shape_of(**changes)


def test_each_class_refuses_the_shape_of_the_other() -> None:
    with pytest.raises(ConfigError, match=r'model\.pooling: expected "none" of a language model'):
        Transformer(shape_of())
    with pytest.raises(ConfigError, match=r'model\.pooling: expected "mean", "last" or "max"'):
        TextEncoder(TransformerConfig.preset("char-tiny", vocab_size=9))


def test_frozen_blocks_are_counted_as_what_is_computed() -> None:
    """As of a language model: 2 of a frozen one below all that is trained, 4 above it."""
    config = shape_of(projection=6)

    def flops(*patterns: str) -> int:
        specs = parameter_specs(config)
        kept = freeze(specs, patterns) if patterns else specs
        return TextEncoder(config, parameters=Parameters(kept)).flops_per_token(10)

    sizes = {p.name: p.size for p in TextEncoder(config).parameters}
    blocks = sum(size for name, size in sizes.items() if name.startswith("blocks."))
    keys = flops() - 6 * blocks
    assert flops("embedding.*", "blocks.*") == 2 * blocks + keys // 3
    assert flops("*.weight") == 6 * blocks + keys - 2 * sum(
        size for name, size in sizes.items() if name[:7] == "blocks." and name[-7:] == ".weight"
    )
