"""What a model's configuration takes, and the sentence for what it does not take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tisslm.config.model import TransformerConfig
from tisslm.errors import ConfigError
from tisslm.models.layers.norm import NORMS

SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 4, "n_embd": 16, "seq_len": 8, "vocab_size": 11}
INTEGER = "input should be a valid integer"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layer": "4"}, f"model.n_layer: {INTEGER}, got '4'"),
        ({"n_layer": True}, f"model.n_layer: {INTEGER}, got True"),
        ({"n_layer": 2.0}, f"model.n_layer: {INTEGER}, got 2.0"),
        ({"n_embd": "16"}, f"model.n_embd: {INTEGER}, got '16'"),
        ({"n_kv_head": False}, f"model.n_kv_head: {INTEGER}, got False"),
        ({"n_kv_head": ""}, f"model.n_kv_head: {INTEGER}, got ''"),
        ({"n_hidden": False}, f"model.n_hidden: {INTEGER}, got False"),
        ({"norm": "batch"}, f"model.norm: expected one of {', '.join(NORMS)}, got 'batch'"),
        ({"norm": 1}, "model.norm: input should be a valid string, got 1"),
        ({"n_hidden": -4}, "model.n_hidden: input should be greater than or equal to 0, got -4"),
        ({"dropout": "0.1"}, "model.dropout: input should be a valid number, got '0.1'"),
        ({"dropout": False}, "model.dropout: input should be a valid number, got False"),
        ({"bias": 1}, "model.bias: input should be a valid boolean, got 1"),
        (
            {"tie_embeddings": "no"},
            "model.tie_embeddings: input should be a valid boolean, got 'no'",
        ),
        ({"norm_eps": float("inf")}, "model.norm_eps: input should be a finite number, got inf"),
        ({"norm_eps": float("nan")}, "model.norm_eps: input should be a finite number, got nan"),
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
    assert {type(value) for value in config.model_dump().values()} <= {int, float, bool, str}


@pytest.mark.parametrize("absent", [{}, {"n_kv_head": 0, "n_hidden": 0}, {"n_kv_head": None}])
def test_sizes_that_are_left_out_are_derived(absent: dict[str, Any]) -> None:
    config = TransformerConfig(**SIZES, **absent)
    assert (config.n_kv_head, config.n_hidden) == (4, 64)


def test_what_a_configuration_holds_builds_it_again() -> None:
    config = TransformerConfig.preset("char-tiny", vocab_size=65, dropout=0.1)
    assert TransformerConfig(**config.model_dump()) == config
