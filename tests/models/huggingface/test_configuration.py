"""What keys of ``config.json`` mean, and which are refused, in the words of the message."""

from __future__ import annotations

from typing import Any

import pytest
from model_folders import SIZES

from tisslm import TransformerConfig
from tisslm.errors import CheckpointError
from tisslm.models.huggingface.configuration import shape_of, written

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 100,
    "vocab_size": 11,
}
GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 100,
    "vocab_size": 11,
}
OF = {
    "gpt2": GPT2,
    "gpt_neox": {**LLAMA, "model_type": "gpt_neox"},
    **{
        name: {**LLAMA, "model_type": name, "num_key_value_heads": 2}
        for name in ("llama", "mistral", "qwen2", "qwen3")
    },
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 25}
SLIDING, FULL = "sliding_attention", "full_attention"


def read(family: str, **keys: Any) -> TransformerConfig:
    return shape_of({**OF[family], **keys}, "config.json")


def refusal(family: str, **keys: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(family, **keys)
    return str(caught.value)


# --------------------------------------------------------------------------- what keys mean


@pytest.mark.parametrize(
    ("family", "keys", "expected"),
    [
        ("gpt2", {}, {"activation": "gelu_tanh", "dropout": 0.1, "tie_embeddings": True}),
        ("gpt2", {"n_inner": None}, {"n_hidden": 128, "bias": True, "norm_eps": 1e-5}),
        ("gpt2", {"n_inner": 48, "n_ctx": 7}, {"n_hidden": 48, "seq_len": 100}),
        ("gpt2", {"activation_function": "gelu"}, {"activation": "gelu"}),
        ("gpt2", {"activation_function": "gelu_fast"}, {"activation": "gelu_tanh"}),
        (
            "gpt2",
            {"embd_pdrop": 0.0, "attn_pdrop": 0, "resid_pdrop": 0.0, "tie_word_embeddings": False},
            {"dropout": 0.0, "tie_embeddings": False},
        ),
        ("llama", {}, {"tie_embeddings": False, "norm_eps": 1e-6, "rope_theta": 1e4, "window": 0}),
        ("llama", {"num_key_value_heads": None}, {"n_kv_head": 4, "head_dim": 8}),
        ("llama", {"head_dim": 6}, {"head_dim": 6}),
        ("llama", {"head_dim": None}, {"head_dim": 8}),
        (
            "llama",
            {"attention_bias": True, "mlp_bias": True},
            {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "norm_bias": False},
        ),
        ("llama", {"hidden_act": "gelu_pytorch_tanh"}, {"activation": "geglu_tanh"}),
        ("llama", {"rope_theta": 500000, "rope_scaling": None}, {"rope_theta": 5e5}),
        ("llama", {"rope_theta": None}, {"rope_theta": 1e4}),
        (
            "llama",
            {"rope_scaling": {"type": "linear", "factor": 2}},
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
        ("llama", {"rope_scaling": {"rope_type": "default"}}, {"rope_scaling": None}),
        (
            "llama",
            {"rope_parameters": {"rope_theta": 7.0, "rope_type": "linear", "factor": 2.0}},
            {"rope_theta": 7.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
        ("llama", {"rope_parameters": {"rope_theta": 7.0}}, {"rope_theta": 7.0}),
        ("mistral", {}, {"window": 4096}),
        ("mistral", {"sliding_window": None}, {"window": 0}),
        ("mistral", {"sliding_window": 9, "layer_types": [SLIDING] * 3}, {"window": 9}),
        ("qwen2", {}, {"qkv_bias": True, "out_bias": False, "window": 0}),
        ("qwen2", {"sliding_window": 9}, {"window": 0}),
        (
            "qwen2",
            {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 1},
            {"window": 9, "layer_types": [FULL, SLIDING, SLIDING]},
        ),
        ("qwen2", {"sliding_window": 9, "use_sliding_window": True}, {"window": 0}),
        (
            "qwen2",
            {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 0},
            {"window": 9, "layer_types": None},
        ),
        (
            "qwen3",
            {
                "sliding_window": 9,
                "use_sliding_window": True,
                "layer_types": [SLIDING, FULL, SLIDING],
            },
            {"window": 9, "layer_types": [SLIDING, FULL, SLIDING], "head_dim": 128},
        ),
        ("qwen3", {"head_dim": None, "attention_bias": True}, {"head_dim": 8, "out_bias": True}),
        ("gpt_neox", {}, {"rotary_fraction": 0.25, "parallel_residual": True, "bias": True}),
        (
            "gpt_neox",
            {"rotary_pct": 0.5, "rotary_emb_base": 7, "use_parallel_residual": False},
            {"rotary_fraction": 0.5, "rope_theta": 7.0, "parallel_residual": False},
        ),
        (
            "gpt_neox",
            {
                "rotary_pct": 0.5,
                "partial_rotary_factor": 0.5,
                "rope_theta": 7,
                "rotary_emb_base": 7,
            },
            {"rotary_fraction": 0.5, "rope_theta": 7.0},
        ),
        ("qwen3", {"is_causal": False}, {"causal": False}),
        ("gpt2", {"is_causal": True}, {"causal": True}),
        ("llama", {}, {"causal": True}),
        ("gpt_neox", {"attention_bias": False}, {"qkv_bias": False, "mlp_bias": True}),
        ("gpt_neox", {"attention_dropout": 0.1, "hidden_dropout": 0.1}, {"dropout": 0.1}),
    ],
)
def test_keys_mean_what_their_class_makes_of_them(family, keys, expected):
    found = read(family, **keys).values()
    assert {key: found[key] for key in expected} == expected


def test_the_length_that_positions_were_stretched_from_is_pinned():
    found = read("llama", rope_scaling={"rope_type": "yarn", "factor": 4.0})
    assert found.rope_scaling["original_max_position_embeddings"] == 100
    beside = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}
    found = read("llama", original_max_position_embeddings=25, **beside)
    assert found.rope_scaling["original_max_position_embeddings"] == 25
    found = read("llama", rope_scaling={**YARN, "factor": None})
    assert found.rope_scaling["factor"] == 4.0


@pytest.mark.parametrize("family", OF)
def test_writing_says_what_reading_said(family):
    shape = read(family)
    assert shape_of(written(shape), "config.json") == shape


def test_a_dropout_of_attention_alone_is_taken_if_another_takes_its_place():
    values = {**OF["llama"], "attention_dropout": 0.1}
    assert shape_of(values, "config.json", any_dropout=True).dropout == 0.0


@pytest.mark.parametrize(
    "keys",
    [
        {"bos_token_id": 1, "eos_token_id": [2, 3], "torch_dtype": "bfloat16", "use_cache": True},
        {"transformers_version": "4.40", "_name_or_path": "x", "architectures": ["X"]},
        {"pretraining_tp": 2, "initializer_range": 0.01, "is_llama_config": True},
        {"predict_special_tokens": True, "output_past": True, "max_sequence_length": 2048},
        {"transformers.js_config": {"dtype": "q4"}, "unsloth_version": "2024.9"},
        {"rope_interleaved": False, "logit_scale": 1.0, "mixture": None, "extra": {}, "more": []},
        {"residual_multiplier": 1, "attn_factor": 0, "suffix": ""},
    ],
)
def test_what_changes_nothing_is_left_out(keys):
    assert read("llama", **keys) == read("llama")


# --------------------------------------------------------------------------- what is refused

ADVICE = "correct it, or save it again"
OTHERS = "use a model with one of these"


@pytest.mark.parametrize(
    ("family", "keys", "message"),
    [
        (
            "llama",
            {"model_type": "gemma3_text"},
            "model_type: expected an architecture out of gpt2, llama, mistral, qwen2, qwen3, "
            "gpt_neox, got 'gemma3_text'; give a model of one of these",
        ),
        (
            "llama",
            {"model_type": ["llama"]},
            "model_type: expected an architecture out of gpt2, llama, mistral, qwen2, qwen3, "
            "gpt_neox, got \"['llama']\"; give a model of one of these",
        ),
        (
            "llama",
            {"attn_logit_softcapping": 50.0},
            "'attn_logit_softcapping': expected a known key, since others may change what the "
            "model computes, got this one, '50.0'; if it changes nothing, take it out",
        ),
        (
            "llama",
            {"quantization_config": {"bits": 4}},
            "'quantization_config': expected a known key, since others may change what the model "
            "computes, got this one, \"{'bits': 4}\"; if it changes nothing, take it out",
        ),
        (
            "llama",
            {"rope_interleaved": True},
            "'rope_interleaved': expected a known key, since others may change what the model "
            "computes, got this one, 'True'; if it changes nothing, take it out",
        ),
        (
            "llama",
            {"sliding_window": 100},
            "'sliding_window': expected a known key, since others may change what the model "
            "computes, got this one, '100'; if it changes nothing, take it out",
        ),
        (
            "gpt2",
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx: expected 'False', got 'True'; such a model is not "
            "possible here, use another",
        ),
        (
            "gpt2",
            {"scale_attn_weights": False},
            "scale_attn_weights: expected 'True', got 'False'; such a model is not possible here, "
            "use another",
        ),
        (
            "gpt2",
            {"hidden_size": 64},
            f"hidden_size: expected n_embd = 32, of which it is another name, got '64'; {ADVICE}",
        ),
        ("gpt2", {"n_layer": None}, f"n_layer: expected an integer >= 1, got 'None'; {ADVICE}"),
        (
            "gpt2",
            {"resid_pdrop": 0.0},
            "expected one dropout of embedding, attention and sublayers, got embd_pdrop = 0.1, "
            "attn_pdrop = 0.1, resid_pdrop = 0; say which is wanted by dropout=, such as "
            "dropout=0.0",
        ),
        (
            "gpt2",
            {"activation_function": "relu"},
            "activation_function: expected one of gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, "
            f"silu, swish, relu2, got 'relu'; {OTHERS}",
        ),
        (
            "llama",
            {"hidden_act": "relu2"},
            "hidden_act: expected one of silu, swish, gelu, gelu_new, gelu_pytorch_tanh, "
            f"gelu_fast, got 'relu2'; {OTHERS}",
        ),
        ("llama", {"hidden_act": None}, None),
        ("llama", {"hidden_size": 0}, f"hidden_size: expected an integer >= 1, got '0'; {ADVICE}"),
        ("llama", {"hidden_size": True}, None),
        ("llama", {"hidden_size": 32.0}, None),
        ("llama", {"vocab_size": None}, None),
        ("llama", {"hidden_size": 30}, None),
        (
            "llama",
            {"num_key_value_heads": 3},
            "expected the configuration of a llama model, got another (model.n_kv_head: expected a "
            "divisor of n_head = 4, got 3); download or save it again",
        ),
        ("llama", {"num_hidden_layers": 10**9}, None),
        ("llama", {"vocab_size": 2**40}, None),
        (
            "llama",
            {"attention_dropout": 0.1},
            "expected one dropout of embedding, attention and sublayers, got attention_dropout = "
            "0.1 alone; say which is wanted by dropout=, such as dropout=0.0",
        ),
        (
            "llama",
            {"rms_norm_eps": "1e-5"},
            f"rms_norm_eps: expected a number, got '1e-5'; {ADVICE}",
        ),
        ("llama", {"rms_norm_eps": -1.0}, None),
        (
            "llama",
            {"tie_word_embeddings": 1},
            f"tie_word_embeddings: expected true or false, got '1'; {ADVICE}",
        ),
        (
            "llama",
            {"partial_rotary_factor": 0.5},
            "partial_rotary_factor: expected 1, as this family has it, got '0.5'; use another "
            "model",
        ),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, None),
        (
            "llama",
            {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
            "rope_scaling: rope_scaling.rope_type: 'dynamic' is not possible, for its angles "
            "depend on the length of the text of a call, and here a token's depend on its position "
            "alone. Take one of default, linear, llama3, yarn",
        ),
        ("llama", {"rope_scaling": {"type": "mrope", "mrope_section": [1, 2]}}, None),
        ("llama", {"rope_scaling": {"factor": 2.0}}, None),
        ("llama", {"rope_scaling": "linear"}, None),
        (
            "llama",
            {"rope_scaling": {"full_attention": {"rope_theta": 1.0}}},
            "rope_scaling: expected one table for all layers, got "
            "\"{'full_attention': {'rope_theta': 1.0}}\"; use a model that has one",
        ),
        ("llama", {"rope_scaling": {**YARN, "factor": "4"}}, None),
        ("llama", {"rope_scaling": {**YARN, "original_max_position_embeddings": 0}}, None),
        (
            "llama",
            {"rope_scaling": {**YARN, "factor": None, "original_max_position_embeddings": None}},
            None,
        ),
        (
            "llama",
            {"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0}},
            "rope_parameters: expected one rope_theta in all places, got \"{'rope_theta': 6.0}\"; "
            "correct the wrong one",
        ),
        ("llama", {"rope_parameters": {"rope_theta": "6"}}, None),
        (
            "llama",
            {"rope_scaling": YARN, "rope_parameters": {**YARN, "factor": 2.0}},
            None,
        ),
        ("llama", {"rope_theta": 0.5}, None),
        (
            "mistral",
            {"sliding_window": 9, "layer_types": [SLIDING, FULL, SLIDING]},
            "layer_types: expected the same for all layers, as sliding_window has it, got "
            f"\"['sliding_attention', 'full_attention', 'sliding_attention']\"; {ADVICE}",
        ),
        ("mistral", {"sliding_window": 0}, None),
        ("mistral", {"attention_bias": True}, None),
        (
            "qwen2",
            {"layer_types": [FULL]},
            "layer_types: expected 3 names out of full_attention and sliding_attention, got "
            f"\"['full_attention']\"; {ADVICE}",
        ),
        ("qwen2", {"layer_types": [FULL, FULL, "chunked_attention"]}, None),
        ("qwen2", {"layer_types": [FULL, FULL, []]}, None),
        (
            "qwen2",
            {"layer_types": [SLIDING] * 3},
            "layer_types: expected no sliding_attention without use_sliding_window and "
            "sliding_window, got "
            f"\"['sliding_attention', 'sliding_attention', 'sliding_attentio...\"; {ADVICE}",
        ),
        ("qwen2", {"max_window_layers": -1}, None),
        ("qwen2", {"use_sliding_window": 1}, None),
        ("gpt_neox", {"rotary_pct": 0.1}, None),
        ("gpt_neox", {"num_key_value_heads": 2}, None),
        (
            "gpt_neox",
            {"rotary_pct": 0.5, "partial_rotary_factor": 0.25},
            "partial_rotary_factor: expected one partial_rotary_factor in all places, got '0.25'; "
            "correct the wrong one",
        ),
        (
            "gpt_neox",
            {"hidden_dropout": 0.1},
            "expected one dropout of embedding, attention and sublayers, got attention_dropout = "
            "0, hidden_dropout = 0.1; say which is wanted by dropout=, such as dropout=0.0",
        ),
    ],
)
def test_what_is_not_possible_is_refused_by_name(family, keys, message):
    found = refusal(family, **keys)
    assert found.startswith("config.json: ")
    assert len(found) < 500
    if message is not None:
        assert found == f"config.json: {message}"


def test_a_missing_architecture_is_named_with_the_list():
    with pytest.raises(
        CheckpointError, match=r"config\.json: model_type: expected an archi.*none;"
    ):
        shape_of({"hidden_size": 3}, "config.json")


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "intermediate_size"])
def test_a_missing_size_is_named(key):
    values = {k: v for k, v in OF["llama"].items() if k != key}
    with pytest.raises(
        CheckpointError, match=f"^config.json: {key}: expected an integer >= 1, got"
    ):
        shape_of(values, "config.json")


def test_every_family_of_ours_has_a_table():
    from tisslm.config.model import FAMILIES
    from tisslm.models.huggingface.names import FAMILIES as NAMED

    assert set(NAMED) == set(FAMILIES)
    for family in FAMILIES:
        keys = {"rotary_fraction": 0.5} if family == "gpt_neox" else {}
        assert written(TransformerConfig(**{**SIZES, "family": family, **keys})) is not None
