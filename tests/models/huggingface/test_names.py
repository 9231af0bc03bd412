"""Names there and here: a mapping made by hand as oracle, and both ways one after the other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers_models import theirs

from tisslm import Transformer, TransformerConfig
from tisslm.errors import CheckpointError
from tisslm.models.huggingface.exchange import exchange_of
from tisslm.models.initialization import parameter_specs
from tisslm.system.tensor_files import StreamedArrays

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 12, "vocab_size": 11}
ROTARY: dict[str, Any] = {"rope_theta": 500.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def _of(*kinds: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.sampled_from(kinds)


def _both(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {k: v for part in found for k, v in part.items()})


_TIED = _of({}, {"tie_embeddings": True}, {"tie_embeddings": False})
_DROPOUT = _of({}, {"dropout": 0.25})
_SHARED = _of({}, {"n_kv_head": 2}, {"n_kv_head": 1}, {"n_head": 2, "head_dim": 6})
_GATES = _of({}, {"activation": "geglu"}, {"activation": "geglu_tanh"}, {"n_hidden": 24})
_ROPE = _of({}, ROTARY, {"rope_scaling": LLAMA3}, {"rope_scaling": {"type": "linear", "factor": 2}})
_PLAIN = _of({}, {"activation": "gelu_tanh"}, {"activation": "silu"}, {"activation": "relu2"})
_SLIDING = ["sliding_attention", "full_attention"]
_GPT_BIASES = _of({}, {"bias": False}, {"qkv_bias": False}, {"mlp_bias": False})
_LLAMA_BIASES = _of({}, {"qkv_bias": True}, {"out_bias": True}, {"bias": True, "mlp_bias": False})

#: Shapes of each family that its class in transformers can have.
SHAPES = {
    "gpt2": _both(_TIED, _DROPOUT, _PLAIN, _GPT_BIASES, _of({}, {"n_hidden": 24})),
    "llama": _both(
        _TIED, _DROPOUT, _SHARED, _GATES, _ROPE, _LLAMA_BIASES, _of({}, {"mlp_bias": True})
    ),
    "mistral": _both(_TIED, _SHARED, _GATES, _ROPE, _of({}, {"window": 5})),
    "qwen2": _both(
        _TIED,
        _SHARED,
        _ROPE,
        _of({}, {"qkv_bias": False}),
        _of({}, {"window": 3}, {"window": 3, "layer_types": _SLIDING}),
    ),
    "qwen3": _both(
        _TIED, _DROPOUT, _SHARED, _LLAMA_BIASES, _of({}, {"window": 3, "layer_types": _SLIDING})
    ),
    "gpt_neox": _both(
        _TIED,
        _DROPOUT,
        _PLAIN,
        _GPT_BIASES,
        _of({"rotary_fraction": 0.5}, {"rotary_fraction": 1.0, "rope_scaling": LLAMA3}),
        _of({}, {"parallel_residual": False}),
    ),
}


def shape(family: str, keys: dict[str, Any]) -> TransformerConfig:
    return TransformerConfig(**{**SIZES, "family": family, **keys})


def drawn(config: TransformerConfig, dtype: Any = np.float32) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {s.name: rng.standard_normal(s.shape).astype(dtype) for s in parameter_specs(config)}


def same(found: Any, expected: Any) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        if isinstance(found, StreamedArrays):
            assert found.kind(name) == (array.shape, array.dtype)
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype), name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("family", SHAPES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_outward_has_the_names_and_inward_the_bits(family, data):
    config = shape(family, data.draw(SHAPES[family]))
    dtype = data.draw(st.sampled_from([np.float32, np.float16, np.float64, np.uint16]))
    arrays = drawn(config, dtype)
    exchange = exchange_of(config)
    there = exchange.outward(arrays)
    names = {
        name.replace("lm_head", "embed_out") if family == "gpt_neox" else name: array
        for name, array in theirs(config, arrays).items()
    }
    same({n: there[n] for n in names}, names)
    added = [there[n] for n in there if n not in names]  # biases that only the class there has
    assert not any(array.any() for array in added)
    same(exchange.inward(there), arrays)
    copied = {name: np.ascontiguousarray(there[name]) for name in there}
    same(exchange.inward(copied), arrays)
    assert json.loads(json.dumps(exchange.config)) == exchange.config


def test_outward_makes_views_where_these_will_do():
    config = shape("llama", {})
    arrays = drawn(config)
    there = exchange_of(config).outward(arrays)
    query = there["model.layers.1.self_attn.q_proj.weight"]
    assert query.base is arrays["blocks.1.attention.qkv.weight"]
    assert there["model.norm.weight"] is arrays["final_norm.weight"]


@pytest.mark.parametrize("family", SHAPES)
def test_names_without_the_prefix_are_those_of_a_model_without_its_head(family):
    config = shape(family, {"tie_embeddings": True})
    exchange, arrays = exchange_of(config), drawn(config)
    bare = {n.partition(".")[2]: array for n, array in exchange.outward(arrays).items()}
    same(exchange.inward(bare), arrays)


@pytest.mark.parametrize(
    "name",
    [
        "gpt2 transformer.h.0.attn.bias",
        "gpt2 transformer.h.1.attn.masked_bias",
        "llama model.layers.0.self_attn.rotary_emb.inv_freq",
        "gpt_neox gpt_neox.layers.0.attention.bias",
        "gpt_neox gpt_neox.layers.0.attention.masked_bias",
        "gpt_neox gpt_neox.layers.1.attention.rotary_emb.inv_freq",
    ],
)
def test_arrays_that_follow_from_the_configuration_are_left_out(name):
    family, name = name.split()
    config = shape(family, {})
    exchange, arrays = exchange_of(config), drawn(config)
    there = {**exchange.outward(arrays), name: np.ones(3, np.float32)}
    same(exchange.inward(there), arrays)


def test_a_head_beside_tied_embeddings_has_to_equal_them():
    config = shape("llama", {"tie_embeddings": True})
    exchange, arrays = exchange_of(config), drawn(config)
    there = dict(exchange.outward(arrays))
    there["lm_head.weight"] = there["model.embed_tokens.weight"].copy()
    same(exchange.inward(there), arrays)
    there["lm_head.weight"][-1, -1] += 1
    with pytest.raises(CheckpointError, match=r"expected lm_head\.weight to equal model\.e"):
        exchange.inward(there)


def test_the_head_of_gpt_neox_has_two_names():
    config = shape("gpt_neox", {})
    exchange, arrays = exchange_of(config), drawn(config)
    there = dict(exchange.outward(arrays))
    there["lm_head.weight"] = there.pop("embed_out.weight")
    same(exchange.inward(there), arrays)


def _changed(change):
    config = shape("llama", {})
    exchange = exchange_of(config)
    there = dict(exchange.outward(drawn(config)))
    change(there)
    with pytest.raises(CheckpointError) as caught:
        exchange.inward(there)
    return str(caught.value)


QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda there: there.pop(QUERY),
            f"llama model: expected an array {QUERY} of shape (32, 32), got none; download or save "
            "the whole model again",
        ),
        (
            lambda there: there.update({"model.layers.2.mlp.up_proj.weight": np.zeros(2)}),
            "llama model: expected the arrays of a llama model of 2 layers, got "
            "'model.layers.2.mlp.up_proj.weight' besides; give it the configuration that it was "
            "saved with",
        ),
        (
            lambda there: there.update({QUERY: np.zeros((4, 32), np.float32)}),
            f"llama model: expected {QUERY} of shape (32, 32), by its configuration, got (4, 32); "
            "the two are of different models, download or save both again",
        ),
        (
            lambda there: there.update({QUERY: np.zeros((32, 32), np.int8)}),
            f"llama model: expected {QUERY} of float32, float16, bfloat16 or float64, got int8; "
            "save the model in one of these types",
        ),
        (
            lambda there: there.update({QUERY: np.zeros((32, 32), np.float16)}),
            f"llama model: expected one type of {QUERY} and model.layers.1.self_attn.k_proj.weight "
            "and model.layers.1.self_attn.v_proj.weight, got float16 and float32; save the model "
            "in one type",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    assert _changed(change) == message


def test_zeros_for_biases_that_we_lack_have_to_be_zeros():
    config = shape("gpt2", {"bias": False})
    exchange = exchange_of(config)
    there = dict(exchange.outward(drawn(config)))
    there["transformer.ln_f.bias"] = np.ones(32, np.float32)
    with pytest.raises(CheckpointError, match=r"expected zeros as transformer\.ln_f\.bias, since"):
        exchange.inward(there)


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("gpt2", {"activation": "swiglu"}),
        ("gpt2", {"norm": "rms"}),
        ("gpt2", {"positions": "rotary"}),
        ("gpt2", {"positions": "none"}),
        ("gpt2", {"n_kv_head": 2}),
        ("gpt2", {"head_dim": 16}),
        ("gpt2", {"window": 4}),
        ("gpt2", {"qk_norm": "head"}),
        ("gpt2", {"parallel_residual": True}),
        ("gpt2", {"logit_cap": 15.0}),
        ("gpt2", {"mup_base_width": 16}),
        ("qwen3", {"mup_base_width": 32, "mup_base_head_dim": 4}),
        ("llama", {"window": 4}),
        ("llama", {"qk_norm": "head"}),
        ("llama", {"activation": "gelu"}),
        ("llama", {"norm": "layer"}),
        ("llama", {"rotary_fraction": 0.5}),
        ("llama", {"parallel_residual": True}),
        ("llama", {"n_embd": 34, "head_dim": 8}),
        ("mistral", {"window": 4, "layer_types": _SLIDING}),
        ("mistral", {"qkv_bias": True}),
        ("mistral", {"mlp_bias": True}),
        ("qwen2", {"out_bias": True}),
        ("qwen3", {"qk_norm": "all"}),
        ("qwen3", {"mlp_bias": True}),
        ("gpt_neox", {"qk_norm": "head"}),
        ("gpt_neox", {"window": 3}),
        ("gpt_neox", {"n_kv_head": 2}),
        ("gpt_neox", {"activation": "swiglu"}),
        ("gpt_neox", {"positions": "learned"}),
    ],
)
def test_a_shape_that_no_class_there_has_is_no_exchange(family, keys):
    config = shape(family, keys)
    assert exchange_of(config) is None
    assert Transformer.of_shapes(config).exchange() is None
