"""What muP's keys make of a shape, and what they do not go with."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest

from tisslm.config import ConfigNote
from tisslm.config.model import TransformerConfig
from tisslm.errors import ConfigError
from tisslm.registry import load_registry
from tisslm.workflows.build.settling import settle_sizes

SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 4, "n_embd": 64, "seq_len": 8, "vocab_size": 11}


def test_at_the_base_width_all_factors_are_exactly_one() -> None:
    plain, base = TransformerConfig(**SIZES), TransformerConfig(**SIZES, mup_base_width=64)
    assert (base.width_ratio, base.score_factor) == (1.0, 1.0)
    assert base.attention_scale == plain.attention_scale == 1 / math.sqrt(16)
    assert not base.rescaled


@pytest.mark.parametrize("width", [32, 96, 256])
def test_wider_heads_fall_as_one_over_their_size_and_more_heads_stay(width: int) -> None:
    sizes = {**SIZES, "n_embd": width, "mup_base_width": 64}
    wider = TransformerConfig(**sizes)
    assert wider.width_ratio == 64 / width
    assert wider.attention_scale == pytest.approx(math.sqrt(16) / (width / 4))
    more = TransformerConfig(**{**sizes, "n_head": width // 16}, mup_base_head_dim=16)
    assert more.attention_scale == 1 / math.sqrt(16)
    assert wider.rescaled
    assert more.rescaled
    assert TransformerConfig(**more.values()) == more


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"mup_base_width": -1},
            "model.mup_base_width: expected an integer >= 0, got -1; 0 switches muP off",
        ),
        (
            {"mup_base_head_dim": "8", "mup_base_width": 64},
            'model.mup_base_head_dim: expected an integer >= 0, got "8"; 0: as many heads at the '
            "base",
        ),
        (
            {"mup_base_head_dim": 8, "mup_base_width": 0},
            "model.mup_base_head_dim: 8 needs model.mup_base_width, got none; set it, or leave "
            "both out",
        ),
        (
            {"mup_base_width": 2**31},
            f"model.mup_base_width: expected an integer below {2**31}, got {2**31}",
        ),
        (
            {"mup_base_width": 32, "pooling": "mean"},
            "model.mup_base_width: expected 0, since muP says nothing of the vectors of a model "
            'with pooling = "mean", got 32; leave it out, or start from an export of the model',
        ),
    ],
)
def test_what_does_not_go_together_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        TransformerConfig(**SIZES, **keys)
    assert str(refused.value) == message


def test_heads_of_another_base_alone_are_muP_at_this_width() -> None:
    shape = TransformerConfig(**SIZES, mup_base_head_dim=8)
    assert (shape.mup_base_width, shape.width_ratio) == (64, 1.0)
    assert shape.score_factor == math.sqrt(8 / 16)
    assert shape.rescaled


def test_a_run_is_told_which_heads_its_base_is_taken_to_have() -> None:
    keys = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    registry = load_registry()
    with pytest.warns(ConfigNote) as notes:
        settle_sizes({**keys, "mup_base_width": 32}, registry)
    assert str(notes[0].message) == (
        "model.mup_base_width = 32 is taken to have 4 heads, too, of 8 channels; if its heads are "
        "as wide as those of this model, set model.mup_base_head_dim = 16"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settle_sizes({**keys, "mup_base_width": 64}, registry)
        settle_sizes({**keys, "mup_base_width": 32, "mup_base_head_dim": 16}, registry)
