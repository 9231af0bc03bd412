"""What a shape says of its model: named rows of fused maps, operations, tables, and plans."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.config.model import PRESETS
from tisslm.errors import ShapeError
from tisslm.memory import ParameterSpec
from tisslm.models.window import twice_keys_seen

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 40, "vocab_size": 61}


def test_fused_maps_name_the_rows_of_each():
    config = TransformerConfig(**SIZES, family="qwen2", n_kv_head=2, n_hidden=48)
    parameters = Transformer(config, seed=1).parameters
    for kind in ("weight", "bias"):
        assert parameters[f"blocks.1.attention.qkv.{kind}"].blocks == {
            "q": slice(0, 32),
            "k": slice(32, 48),
            "v": slice(48, 64),
        }
    assert parameters["blocks.0.mlp.up.weight"].blocks == {
        "gate": slice(0, 48),
        "up": slice(48, 96),
    }
    assert parameters["blocks.0.mlp.down.weight"].blocks == {}


def test_rows_that_are_not_those_of_the_matrix_are_refused():
    with pytest.raises(ShapeError, match="expected blocks of 6 rows together, got"):
        ParameterSpec("up.weight", (6, 2), blocks=(("gate", 3), ("up", 2)))


@pytest.mark.parametrize(("time", "window"), [(7, 0), (7, 7), (7, 9), (64, 1), (64, 10), (64, 63)])
def test_keys_that_are_seen_in_the_mean(time, window):
    each = [min(t + 1, window or time) for t in range(time)]
    # half of T in place of (T + 1) / 2, which is customary: a token's own key counts half
    expected = 2 * (np.mean(each) - 0.5)
    if 0 < window < time:
        assert twice_keys_seen(time, window) == pytest.approx(expected, abs=1.5)
    else:
        assert twice_keys_seen(time, window) == time == pytest.approx(expected)


def test_operations_are_those_of_what_is_multiplied():
    config = TransformerConfig(**SIZES, family="llama", head_dim=16, n_kv_head=2, n_hidden=48)
    block = 32 * (64 + 32 + 32) + 64 * 32 + 3 * 32 * 48 + 2 * 32
    multiplied = 2 * block + 32 + 61 * 32  # the untied table of tokens is looked up
    model = Transformer(config, seed=1)
    assert model.parameters.count == multiplied + 61 * 32
    assert model.flops_per_token(40) == 6 * multiplied + 2 * 6 * 4 * 16 * 40
    windowed = Transformer(config.model_copy(update={"window": 8}), seed=1)
    assert windowed.flops_per_token(40) == 6 * multiplied + 2 * 6 * 4 * 16 * round(8 * 72 / 40)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("smollm2-135m", 134.5),
        ("smollm2-360m", 361.8),
        ("llama-3.2-1b", 1235.8),
        ("qwen2.5-0.5b", 494.0),
        ("qwen3-0.6b", 596.0),
        ("pythia-14m", 14.1),
        ("pythia-70m", 70.4),
    ],
)
def test_a_preset_has_the_parameters_that_its_weights_were_published_with(name, millions):
    model = Transformer.of_shapes(TransformerConfig.preset(name))
    assert model.parameters.count / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_planned_without_memory(name):
    sizes = {} if "vocab_size" in PRESETS[name] else {"vocab_size": 65}
    model = Transformer.of_shapes(TransformerConfig.preset(name, **sizes))
    plan = model.plan(1, 64)
    rotary = PRESETS[name].get("family", "gpt2") != "gpt2"
    assert ("rotary" in plan) == rotary
    if rotary:
        turned = int(model.config.head_dim * model.config.rotary_fraction)
        assert plan["rotary"] == 4 * turned * model.seq_len
