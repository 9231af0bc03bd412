"""What a model's configuration takes, and the sentence for what it does not take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tisslm.config.model import (
    CHOICES,
    FAMILIES,
    GATED,
    PRESETS,
    TransformerConfig,
    preset,
)
from tisslm.errors import ConfigError
from tisslm.models.layers.norm import NORMS
from tisslm.ops import ACTIVATIONS

SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 4, "n_embd": 16, "seq_len": 8, "vocab_size": 11}
VOCAB = {"vocab_size": 11}
INTEGER = "expected an integer >= 1"
OR_ZERO = "expected an integer >= 0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layer": "4"}, f'model.n_layer: {INTEGER}, got "4"'),
        ({"n_layer": True}, f"model.n_layer: {INTEGER}, got true"),
        ({"n_layer": 2.5}, f"model.n_layer: {INTEGER}, got 2.5"),
        ({"n_layer": 10001}, "model.n_layer: expected an integer below 10001, got 10001"),
        ({"n_embd": "16"}, f'model.n_embd: {INTEGER}, got "16"'),
        ({"seq_len": 2**31}, f"model.seq_len: expected an integer below {2**31}, got {2**31}"),
        ({"n_kv_head": False}, f"model.n_kv_head: {OR_ZERO}, got false; 0 derives it"),
        ({"n_kv_head": ""}, f'model.n_kv_head: {OR_ZERO}, got ""; 0 derives it'),
        ({"n_hidden": False}, f"model.n_hidden: {OR_ZERO}, got false; 0 derives it"),
        ({"n_hidden": -4}, f"model.n_hidden: {OR_ZERO}, got -4; 0 derives it"),
        ({"activation": ["silu"]}, 'model.activation: expected a string, got ["silu"]'),
        ({"norm": "batch"}, "model.norm: expected one of layer, rms, got 'batch'"),
        ({"norm": 1}, "model.norm: expected a string, got 1"),
        ({"dropout": "0.1"}, 'model.dropout: expected a number in [0, 1), got "0.1"'),
        ({"dropout": False}, "model.dropout: expected a number in [0, 1), got false"),
        ({"bias": 1}, "model.bias: expected true or false, got 1"),
        ({"qkv_bias": 1}, "model.qkv_bias: expected true or false, got 1"),
        ({"tie_embeddings": "no"}, 'model.tie_embeddings: expected true or false, got "no"'),
        ({"norm_eps": float("inf")}, "model.norm_eps: expected a finite number > 0, got inf"),
        ({"norm_eps": float("nan")}, "model.norm_eps: expected a finite number > 0, got nan"),
        ({"rope_theta": 0}, "model.rope_theta: expected a finite number > 0, got 0"),
        ({"rotary_fraction": 1.5}, "model.rotary_fraction: expected a number in (0, 1], got 1.5"),
        ({"rope_scaling": "linear"}, 'model.rope_scaling: expected a table, got "linear"'),
        (
            {"logit_cap": -1},
            "model.logit_cap: expected a finite number >= 0, got -1; 0 caps nothing",
        ),
        (
            {"positions": "rope"},
            "model.positions: expected one of learned, rotary, none, got 'rope'",
        ),
        (
            {"qk_norm": "heads"},
            "model.qk_norm: expected one of none, head, all, got 'heads'. Did you mean 'head'?",
        ),
        ({"layer_types": 7}, "model.layer_types: expected a list of names, got 7"),
    ],
)
def test_values_of_another_type_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TransformerConfig(**{**SIZES, **options})
    assert str(caught.value) == message


def test_integers_will_do_for_floats() -> None:
    config = TransformerConfig(**SIZES, dropout=0, norm_eps=1)
    assert (config.dropout, config.norm_eps) == (0.0, 1.0)
    assert isinstance(config.dropout, float)
    assert isinstance(config.norm_eps, float)


def test_numbers_of_numpy_are_taken() -> None:
    sizes = {key: np.int64(value) for key, value in SIZES.items()}
    config = TransformerConfig(**sizes, dropout=np.float32(0.5))
    assert config == TransformerConfig(**SIZES, dropout=0.5)
    assert {type(value) for value in config.model_dump().values()} <= {
        int,
        float,
        bool,
        str,
        type(None),
    }


@pytest.mark.parametrize("absent", [{}, {"n_kv_head": 0, "n_hidden": 0}, {"n_kv_head": None}])
def test_sizes_that_are_left_out_are_derived(absent: dict[str, Any]) -> None:
    config = TransformerConfig(**SIZES, **absent)
    assert (config.n_kv_head, config.head_dim, config.n_hidden) == (4, 4, 64)


def test_what_a_configuration_holds_builds_it_again() -> None:
    config = TransformerConfig.preset("char-tiny", vocab_size=65, dropout=0.1)
    assert TransformerConfig(**config.model_dump()) == config


@pytest.mark.parametrize("name", [*PRESETS, "depth-4"])
def test_a_preset_is_of_its_family_and_its_values_build_it_again(name: str) -> None:
    config = TransformerConfig.preset(name, **({} if "vocab_size" in preset(name) else VOCAB))
    assert config.family == preset(name)["family"]
    assert TransformerConfig(family=config.family, **config.values()) == config
    for key, value in FAMILIES[config.family].items():
        assert getattr(config, key) == preset(name).get(key, value)


@pytest.mark.parametrize("key", CHOICES)
def test_names_are_those_that_there_are(key: str) -> None:
    known = {"norm": tuple(NORMS), "activation": (*ACTIVATIONS, *GATED)}
    assert known.get(key, CHOICES[key]) == CHOICES[key]
    assert set(GATED.values()) <= set(ACTIVATIONS)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"n_embd": 18}, "model.n_embd: expected a multiple of n_head = 4, got 18; or give model.head"),
    ({"n_kv_head": 3}, "model.n_kv_head: expected a divisor of n_head = 4, got 3"),
    (
        {"positions": "rotary", "head_dim": 5},
        "model.head_dim: expected an even number, since rotary positions turn channels in pairs, "
        "got 5",
    ),
    (
        {"positions": "rotary", "n_embd": 20},
        "model.head_dim: expected an even number, since rotary positions turn channels in pairs, "
        "got 5, which is n_embd / n_head = 20 / 4",
    ),
    (
        {"rotary_fraction": 0.25, "head_dim": 12},
        "model.rotary_fraction: expected a part of head_dim = 12 that is an even number of "
        "channels, got 0.25, which is 3 of them",
    ),
    (
        {"positions": "none", "rotary_fraction": 0.5},
        'model.rotary_fraction: 0.5 needs positions = "rotary", got "none"; leave it out, or',
    ),
    (
        {"positions": "learned", "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        'model.rope_scaling: a table needs positions = "rotary", got "learned"; leave it out',
    ),
    (
        {"rotary_fraction": 0.08, "head_dim": 8},
        "model.rotary_fraction: expected a part of head_dim = 8 that is an even number of "
        "channels, got 0.08, which is 0 of them",
    ),
    (
        {"logit_cap": 1e39},
        "model.logit_cap: expected 0, which caps nothing, or a number from 2^-63",
    ),
    (
        {"logit_cap": 1e-46},
        "model.logit_cap: expected 0, which caps nothing, or a number from 2^-6",
    ),
    ({"rope_theta": 1}, "model.rope_theta: expected a number above 1 and below 2^63, got 1.0"),
    (
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        "model.rope_scaling.rope_type: 'dynamic' is not possible, for its angles depend on the",
    ),
    (
        {"rope_scaling": {"rope_type": "wide"}},
        "model.rope_scaling.rope_type: expected one of default, linear, llama3, yarn, got 'wide'",
    ),
    (
        {"rope_scaling": {"rope_type": "linear"}},
        "model.rope_scaling.factor: a value is needed for rope_type 'linear'",
    ),
    (
        {"layer_types": ["sliding"], "window": 4},
        "model.layer_types: expected names out of full_attention and sliding_attention, got",
    ),
    (
        {"layer_types": ["full_attention"] * 3},
        "model.layer_types: expected 1 to n_layer = 2 names, which are repeated over the layers",
    ),
    (
        {"layer_types": ["full_attention", "sliding_attention"]},
        "model.layer_types: sliding_attention needs model.window, the number of tokens that such",
    ),
    (
        {"positions": "learned", "rope_theta": 1e5},
        'model.rope_theta: 100000.0 needs positions = "rotary", got "learned"; leave it out, or',
    ),
    (
        {"norm": "rms", "norm_bias": True},
        'model.norm_bias: expected false, since "rms" adds nothing, got true',
    ),
    (
        {"window": 9},
        "model.window: expected at most seq_len = 8, beyond which there are no learned positions, ",
    ),
    ({"family": "lama"}, "model.family: expected one of gpt2, llama, mistral, qwen2, qwen3, gpt_"),
    ({"activation": "relu"}, "model.activation: expected one of gelu, gelu_tanh, silu, relu2, sw"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=str)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TransformerConfig(**{**SIZES, **options})
    assert str(caught.value).startswith(message)


def test_a_key_of_rotary_positions_alone_makes_them_rotary() -> None:
    assert TransformerConfig(**SIZES, rope_theta=1e5).positions == "rotary"
    assert TransformerConfig(**SIZES, rope_theta=1e4, positions="none").positions == "none"


def test_other_positions_leave_out_what_only_rotary_ones_have() -> None:
    for positions in ("learned", "none"):
        config = TransformerConfig(**SIZES, family="gpt_neox", positions=positions)
        assert (config.positions, config.rotary_fraction) == (positions, 1.0)
        config = TransformerConfig.preset("llama-3.2-1b", positions=positions)
        assert (config.positions, config.rope_scaling) == (positions, None)
        assert TransformerConfig(family="llama", **config.values()) == config
    config = TransformerConfig.preset("smollm2-135m", family="gpt2")
    assert (config.positions, config.rope_theta) == ("learned", 1e4), (
        "the family's, not the preset's"
    )
    config = TransformerConfig.preset("smollm2-135m", family="gpt2", rotary_fraction=0.5)
    assert (config.positions, config.rope_theta) == ("rotary", 1e5)
    config = TransformerConfig.preset("smollm2-135m", family="qwen3")
    assert (config.positions, config.rope_theta) == ("rotary", 1e5)
    with pytest.raises(ConfigError, match=r'^model\.rotary_fraction: 0\.5 needs positions = "rot'):
        TransformerConfig(**SIZES, family="gpt_neox", positions="none", rotary_fraction=0.5)


@pytest.mark.parametrize("positions", ["learned", "none"])
def test_with_other_positions_nothing_is_left_of_what_a_family_or_preset_says_of_rotary_ones(
    positions: str,
) -> None:
    config = TransformerConfig(**SIZES, family="gpt_neox", positions=positions)
    assert (config.positions, config.rotary_fraction) == (positions, 1.0)
    assert TransformerConfig(**config.values(), family="gpt_neox") == config
    config = TransformerConfig.preset("llama-3.2-1b", positions=positions)
    assert (config.positions, config.rope_scaling, config.rope_theta) == (positions, None, 1e4)
    with pytest.raises(ConfigError, match=r"^model\.rotary_fraction: 0\.5 needs positions"):
        TransformerConfig(**SIZES, family="gpt_neox", positions=positions, rotary_fraction=0.5)


def test_biases_are_given_by_place() -> None:
    config = TransformerConfig(**SIZES, family="qwen2")
    assert (config.qkv_bias, config.out_bias, config.mlp_bias) == (True, False, False)
    assert TransformerConfig(**SIZES, norm="rms").norm_bias is False
    assert TransformerConfig(**SIZES, bias=False, mlp_bias=True).mlp_bias is True


def test_layers_have_the_window_that_the_pattern_gives_them() -> None:
    sizes = {**SIZES, "n_layer": 5, "window": 4}
    assert [TransformerConfig(**sizes).window_of(i) for i in range(5)] == [4] * 5
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    config = TransformerConfig(**sizes, layer_types=kinds)
    assert [config.window_of(i) for i in range(5)] == [4, 4, 0, 4, 4]
    assert TransformerConfig(**sizes, layer_types=", ".join(kinds)) == config, "as in a shell"


ADAPTED: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    ("smollm2-135m", {"n_head": 4}, {"n_embd": 576, "n_kv_head": 2, "n_hidden": 1536}),
    ("smollm2-135m", {"n_embd": 288}, {"n_head": 9, "n_kv_head": 3, "n_hidden": 768}),
    ("smollm2-135m", {"n_embd": 64}, {"n_head": 8, "n_kv_head": 2, "n_hidden": 171}),
    ("qwen3-tiny", {"n_embd": 100}, {"n_head": 4, "n_kv_head": 2, "head_dim": 64}),
    ("qwen3-tiny", {"n_kv_head": 3}, {"n_head": 3, "n_embd": 128}),
    ("llama-tiny", {"n_head": 6}, {"n_embd": 132, "n_kv_head": 2}),
    ("llama-tiny", {"n_embd": 100}, {"n_head": 2, "n_kv_head": 2}),
    ("llama-tiny", {"n_kv_head": 3}, {"n_head": 3, "n_embd": 126}),
    ("llama-tiny", {"n_head": 6, "positions": "none"}, {"n_embd": 126}),
    ("pythia-14m", {"n_head": 6}, {"n_embd": 114}),
    ("char-tiny", {"n_head": 3, "rope_theta": 5e5}, {"n_embd": 126}),
]


@pytest.mark.parametrize(("name", "given", "expected"), ADAPTED, ids=str)
def test_sizes_of_a_preset_follow_those_given(
    name: str, given: dict[str, Any], expected: dict[str, int]
) -> None:
    config = TransformerConfig.preset(name, **VOCAB, **given)
    assert {key: getattr(config, key) for key in expected} == expected
