"""muP in a model: nothing at the base width; elsewhere its table of rates, values and factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.contracts.pass_observer import PassObserver
from tisslm.datasets import TokenDataset
from tisslm.errors import ConfigError
from tisslm.memory import Parameters
from tisslm.models.initialization import parameter_specs
from tisslm.models.mup import Folded, folded
from tisslm.tracking.pass_arrays import Room, Sites

SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 4, "n_embd": 64, "seq_len": 16, "vocab_size": 31}

#: Families and shapes whose factors are in different weights.
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"family": "gpt2"},
    "llama": {"family": "llama", "n_kv_head": 2},
    "mistral": {"family": "mistral", "window": 5},
    "qwen2": {"family": "qwen2", "tie_embeddings": True, "logit_cap": 3.0},
    "qwen3": {"family": "qwen3", "head_dim": 24},
    "qwen3 all heads": {"family": "qwen3", "qk_norm": "all"},
    "gpt_neox": {"family": "gpt_neox"},
}
IDS = np.random.default_rng(1).integers(0, 31, (3, 16)).astype(np.int32)


def drawn(shape: dict[str, Any], dtype: str = "float32") -> Transformer:
    model = Transformer(TransformerConfig(**SIZES, **shape), seed=5, dtype=dtype)
    rng = np.random.default_rng(6)
    for parameter in model.parameters:  # large enough for every part to matter
        parameter.data[...] += 0.1 * rng.standard_normal(parameter.shape)
    return model


def trained(tmp_path: Any, optimizer: Any = "adamw", **keys: Any) -> Transformer:
    trainer = Trainer(
        Transformer(TransformerConfig(**SIZES, **keys), seed=2),
        optimizer,
        dataset=TokenDataset(np.tile(np.arange(31), 20).astype(np.uint8), 16, vocab_size=31),
        config=TrainingConfig(
            max_steps=3, batch_size=4, learning_rate=1e-2, output_dir=str(tmp_path), save_every=0
        ),
        sinks=(),
    )
    for _, rows in zip(range(3), trainer.session.batches("test"), strict=False):
        trainer.session.train_step(rows)
    return trainer.model


@pytest.mark.parametrize("name", SHAPES)
def test_a_run_at_the_base_width_has_the_bits_of_one_without(tmp_path: Any, name: str) -> None:
    plain = trained(tmp_path / "a", **SHAPES[name])
    base = trained(tmp_path / "b", **SHAPES[name], mup_base_width=64)
    assert plain.parameters.data.tobytes() == base.parameters.data.tobytes()


@pytest.mark.parametrize("name", SHAPES)
def test_matrices_between_wide_vectors_have_their_share_of_rate_and_size(name: str) -> None:
    plain = TransformerConfig(**SIZES, **SHAPES[name])
    wide = plain.model_copy(update={"mup_base_width": 16})
    hidden = ("qkv.weight", "out.weight", "up.weight", "down.weight")
    models = [Transformer(config, seed=3) for config in (plain, wide)]
    for spec in parameter_specs(wide):
        before, after = (model.parameters[spec.name].data for model in models)
        is_hidden = spec.name.endswith(hidden)
        assert spec.lr_scale == (0.25 if is_hidden else 1.0), spec.name
        factor = 0.5 if is_hidden else 1.0
        assert largest_error(after, factor * before) < 1e-6, spec.name
    groups = {(group.decay, group.lr_scale) for group in models[1].parameters.groups}
    assert groups == {(True, 0.25), (True, 1.0), (False, 1.0)}


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_those_of_a_plain_model_with_the_factors_in_its_weights(name: str) -> None:
    model = drawn({**SHAPES[name], "mup_base_width": 24, "mup_base_head_dim": 5}, "float64")
    plain, arrays = folded(model.config, model.parameters.state())
    assert not plain.mup_base_width
    assert not plain.rescaled
    other = Transformer(plain, dtype="float64")
    for parameter in other.parameters:
        parameter.data[...] = arrays[parameter.name]
    expected, _ = other.forward(IDS)
    found, _ = model.forward(IDS)
    assert largest_error(found, expected) < 100 * FLOAT64_ROUNDING
    without = Transformer(plain, dtype="float64", parameters=_same(plain, model.parameters))
    assert largest_error(without.forward(IDS)[0], expected) > 1e-3  # the factors matter


def _same(config: TransformerConfig, values: Parameters) -> Parameters:
    parameters = Parameters(parameter_specs(config), "float64")
    for parameter in parameters:
        parameter.data[...] = values[parameter.name].data
    return parameters


def test_folding_changes_few_weights_and_keeps_the_others_as_they_are() -> None:
    model = drawn({"family": "gpt2", "mup_base_width": 32, "mup_base_head_dim": 4})
    state = model.parameters.state()
    found = Folded(model.config, state)
    changed = {name for name in found if found[name] is not state[name]}
    qkv = {f"blocks.{i}.attention.qkv.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert changed == {"final_norm.weight", "final_norm.bias", *qkv}
    name = "blocks.0.attention.qkv.weight"
    assert np.array_equal(found[name][:64], state[name][:64] * np.float32(0.5))
    assert np.array_equal(found[name][64:], state[name][64:])
    assert len(found) == len(state)
    base = TransformerConfig(**SIZES, mup_base_width=64)
    assert folded(base, state) == (base, state)


@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
def test_decoded_logits_are_those_of_whole_passes(name: str) -> None:
    model = drawn({**SHAPES[name], "mup_base_width": 16})
    whole, _ = model.forward(IDS)
    for weights, bound in (("fp32", 1e-5), ("bf16", 3e-2)):
        decoder = model.decoder(weights)
        found = [decoder.prefill(IDS[:, :5])]
        found += [decoder.step(IDS[:, t]) for t in range(5, 16)]
        error = np.abs(np.stack(found, axis=1) - whole[:, 4:]).max()
        assert error <= bound * np.abs(whole).max()


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_other_optimizers_of_the_kind_are_taken(tmp_path: Any, optimizer: str) -> None:
    assert np.isfinite(trained(tmp_path, optimizer, mup_base_width=16).parameters.data).all()


@pytest.mark.parametrize("base", [16, 64])
def test_an_optimizer_whose_steps_grow_with_gradients_is_refused(tmp_path: Any, base: int) -> None:
    with pytest.raises(ConfigError) as refused:
        trained(tmp_path, "sgd", mup_base_width=base)
    assert str(refused.value) == (
        "optimizer: expected one whose updates do not depend on the size of gradients, as adamw, "
        "adam and rmsprop are, since model.mup_base_width scales learning rates for these, got "
        "sgd; take another one, or leave model.mup_base_width out"
    )


def test_entropies_are_of_the_scores_that_the_softmax_is_taken_of() -> None:
    model, seen = drawn({"mup_base_width": 16}, "float64"), {}
    kept: dict[str, np.ndarray] = {}
    sites = Sites(Room({}), lambda _, site, x: seen.update({site: x}), model.attention_scale)

    class Looks(PassObserver):
        def leave(self, place: str, direction: str, arrays: Any) -> None:
            sites.look(("attention",), place, arrays)
            kept.update({place: arrays["qkv"].copy()} if "qkv" in arrays else {})

    with model.observed(Looks()):
        model.forward(IDS)
    q, k, _ = np.split(kept["blocks.1.attention"].reshape(3, 16, 12, 16), 3, axis=2)
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 16 * 2  # 1 / D, and half of it at the base
    scores = np.where(np.tri(16, dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
    assert largest_error(seen["blocks.1.attention.entropy"], entropy) < 1e-10
