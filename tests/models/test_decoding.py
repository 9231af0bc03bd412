"""Decoding asks every layer: one that cannot is an error, and prompts fill what each keeps."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.contracts import Batch, Buffer, Layer, target_weights
from tisslm.errors import ConfigError, ShapeError
from tisslm.models.decoding import ContextDecoder, TransformerDecoder
from tisslm.models.generation import generate
from tisslm.optim.losses.cross_entropy import CrossEntropy

SHAPE = TransformerConfig(
    n_layer=4, n_head=4, n_kv_head=2, n_embd=32, seq_len=20, vocab_size=13, dropout=0.2
)


class Gain(Layer):
    """A layer that nobody has heard of: it adds half of the stream."""

    def plan(self, shape):
        return {}

    def forward(self, h_NC, saved, scratch, ctx):
        h_NC *= 1.5

    def backward(self, dh_NC, saved, scratch, ctx):
        dh_NC *= 1.5


class Decoding(Gain):
    def decode(self, h_BC, cache, position_B):
        h_BC *= 1.5


class Forgetful(Decoding):
    def cache_plan(self, batch, context):
        return {"past": Buffer((batch, context), "float32", "saved")}


def with_layer(layer: Layer, **how: str) -> Transformer:
    """Return a model whose second block has this layer in place of its MLP."""
    model = Transformer(SHAPE, seed=5)
    model.prepare(**how)
    attention, (name, _) = model.body.stack.blocks[1]
    model.body.stack.blocks[1] = (attention, (name, layer))
    return model


def ids() -> np.ndarray:
    return np.random.default_rng(11).integers(0, 13, (3, 20))


def decoded(decoder, ids_BT: np.ndarray) -> np.ndarray:
    found = [decoder.prefill(ids_BT[:, :7])]
    found += [decoder.step(ids_BT[:, t]) for t in range(7, 20)]
    return np.stack(found, axis=1)


def test_a_layer_that_cannot_decode_is_an_error_and_never_passed_over():
    model = with_layer(Gain())
    decoder = TransformerDecoder(model)
    decoder.prefill(ids()[:, :7])
    message = (
        "layer Gain: it has no decode(), so its model can write no text token by token. Write "
        "Layer.decode, or generate with a model that has it"
    )
    for use in (lambda: decoder.step(ids()[:, 7]), lambda: generate(model, [1, 2], 3)):
        with pytest.raises(ConfigError) as caught:
            use()
        assert str(caught.value) == message


def test_any_model_is_decoded_by_its_forward():
    model = with_layer(Gain())
    expected = np.array(model.forward(ids())[0])[:, 6:]
    # float32: products of other sizes sum in another order, logits are near 1
    np.testing.assert_allclose(decoded(ContextDecoder(model), ids()), expected, atol=1e-5)


def test_a_layer_of_ones_own_that_decodes_gives_the_logits_of_the_whole():
    model = with_layer(Decoding())
    expected = np.array(model.forward(ids())[0])[:, 6:]
    plain = np.array(Transformer(SHAPE, seed=5).forward(ids())[0])[:, 6:]
    assert np.abs(plain - expected).max() > 1e-2, "the layer counts"
    np.testing.assert_allclose(decoded(TransformerDecoder(model), ids()), expected, atol=1e-5)


def test_a_cache_that_no_prompt_fills_is_an_error():
    with pytest.raises(ConfigError) as caught:
        TransformerDecoder(with_layer(Forgetful())).prefill(ids()[:, :7])
    assert str(caught.value) == (
        "layer Forgetful: cache_plan() names past, and there is no fill_cache() that fills them "
        "from a prompt. Write Layer.fill_cache"
    )


@pytest.mark.parametrize("checkpointing", ["full", "every=2", "every=3"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_decoding_has_the_same_bits_whatever_is_recomputed(precision, checkpointing):
    """The layers of recomputed blocks save to the same bytes: each is asked before the next."""
    found = []
    for how in ("none", checkpointing):
        model = Transformer(SHAPE, seed=5)
        model.prepare(precision=precision, activation_checkpointing=how)
        found.append(decoded(TransformerDecoder(model), ids()))
    assert np.array_equal(*found)
    assert len(np.unique(found[0])) > 100


@pytest.mark.parametrize("checkpointing", ["full", "every=2"])
def test_a_layer_without_recompute_of_its_own_is_run_forward_again(checkpointing):
    gradients, x = [], ids()
    for how in ("none", checkpointing):
        model = with_layer(Gain(), activation_checkpointing=how)
        y = np.roll(x, -1, axis=1)
        model.parameters.zero_grad()
        model.step_loss(Batch(x, y, target_weights(y, np.float64)), CrossEntropy())
        gradients.append(
            {p.name: np.array(p.grad) for p in model.parameters if "1.mlp" not in p.name}
        )
    for name, gradient in gradients[0].items():
        assert gradient.any(), name
        assert np.array_equal(gradient, gradients[1][name]), name


DECODERS = [TransformerDecoder, ContextDecoder]


@pytest.mark.parametrize("kind", DECODERS)
def test_prompts_of_different_lengths_and_rows_that_end(kind):
    model, x, lengths = Transformer(SHAPE, seed=5, dtype="float64"), ids(), np.array([7, 1, 4])
    whole, rows = np.array(model.forward(x)[0]), np.arange(3)
    decoder = kind(model)
    found = decoder.prefill(x[:, :7], lengths)
    np.testing.assert_allclose(found, whole[rows, lengths - 1], atol=1e-12)
    for n in range(15):
        going = (lengths + n < 20) & ((rows != 2) | (n < 6))  # the first is full, the last ends
        place = np.minimum(lengths + n, 19)
        found = decoder.step(np.where(going, x[rows, place], -1))
        np.testing.assert_allclose(found[going], whole[rows, place][going], atol=1e-12)
    assert decoder.full_B.tolist() == [True, False, False]
    with pytest.raises(ShapeError, match="the context of 20 tokens is full"):
        decoder.step(np.array([1, 1, 1]))
    found = decoder.restart(0, x[0, :3])
    np.testing.assert_allclose(found, whole[0, 2], atol=1e-12)
    found = decoder.step(np.array([x[0, 3], x[1, 16], x[2, 10]]))
    np.testing.assert_allclose(found, whole[rows, [3, 16, 10]], atol=1e-12)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("lengths", [[7, 1], [7, 0, 2], [8, 1, 2], [[1], [1], [1]]])
def test_lengths_that_do_not_fit_are_refused(kind, lengths):
    decoder = kind(Transformer(SHAPE, seed=5))
    with pytest.raises(ShapeError) as caught:
        decoder.prefill(ids()[:, :7], np.array(lengths))
    assert str(caught.value) == (
        f"decoder: lengths: expected 3 numbers of tokens from 1 to 7, got {lengths}; tokens of a "
        "row come first, padding after them"
    )


def test_weights_that_there_are_not_are_refused():
    model = Transformer(SHAPE, seed=5)
    with pytest.raises(ConfigError) as caught:
        model.decoder(weights="int8")
    assert str(caught.value) == 'decoder: weights: expected "fp32" or "bf16", got \'int8\''
    with pytest.raises(ConfigError) as caught:
        ContextDecoder(model, "bf16")
    assert str(caught.value) == (
        'decoder of Transformer: it reads the parameters as they are, weights="fp32", and was '
        "asked for 'bf16'"
    )


def test_a_copy_of_the_weights_has_half_of_their_bytes_and_changes_nothing():
    model = Transformer(SHAPE, seed=5)
    before, expected = model.parameters.data.copy(), np.array(model.forward(ids())[0])
    decoder = model.decoder(weights="bf16")
    decoder.prefill(ids()[:, :7])
    assert decoder.model.head.project.weight.data.dtype == np.uint16
    assert np.array_equal(model.parameters.data, before)
    assert np.array_equal(model.forward(ids())[0], expected)
