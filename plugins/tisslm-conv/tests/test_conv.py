"""The family of causal convolutions: its contract, its gradients, and a run by name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import tisslm_conv
from tisslm_conv.config import ConvConfig
from tisslm_conv.family import CausalConv

from tisslm.contracts import Batch, target_weights
from tisslm.errors import ConfigError, ShapeError
from tisslm.optim.losses import CrossEntropy
from tisslm.testing import check_model

SHAPE = ConvConfig(n_layer=3, n_embd=6, seq_len=9, vocab_size=7)


def test_the_entry_names_what_the_project_file_says() -> None:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    assert tomllib.loads(text)["project"]["entry-points"]["tisslm"] == {"conv": "tisslm_conv"}
    (entry,) = tisslm_conv.tisslm_models()
    assert (entry.name, entry.target) == ("causal_conv", "tisslm_conv.family:CausalConv")


def test_it_keeps_the_contract() -> None:
    assert check_model(CausalConv).n_assertions > 30


def test_gradients_are_those_of_central_differences() -> None:
    model, loss = CausalConv().build(SHAPE, seed=3, dtype="float64"), CrossEntropy()
    rng = np.random.default_rng(0)
    x_BT, y_BT = rng.integers(0, SHAPE.vocab_size, (2, 2, SHAPE.seq_len)).astype(np.int32)
    batch = Batch(x_BT, y_BT, target_weights(y_BT, np.float64))
    model.parameters.zero_grad()
    model.step_loss(batch, loss)
    for parameter in model.parameters:
        flat, grad = parameter.data.reshape(-1), parameter.grad.reshape(-1)
        for i in rng.choice(flat.size, min(flat.size, 6), replace=False):
            kept, losses = flat[i], []
            for step in (1e-5, -1e-5):
                flat[i] = kept + step
                losses.append(model.step_loss(batch, loss, gradient=False))
            flat[i] = kept
            wanted = (losses[0] - losses[1]) / 2e-5
            # 1e-5^2 of a third derivative near 1, and 1e-16 / 1e-5 of rounding
            assert grad[i] == pytest.approx(wanted, rel=1e-6, abs=1e-9), parameter.name


def test_the_last_layer_sees_two_to_the_layers_tokens() -> None:
    model = CausalConv().build(SHAPE, seed=3, dtype="float64")
    x_BT = np.zeros((1, SHAPE.seq_len), np.int32)
    first = np.array(model.forward(x_BT)[0])
    x_BT[0, 0] = 1
    changed = np.abs(model.forward(x_BT)[0] - first).max(axis=2)[0] > 0
    assert changed.tolist() == [True] * 8 + [False]


def test_a_stale_cache_is_refused() -> None:
    model = CausalConv().build(SHAPE)
    x_BT = np.zeros((1, 4), np.int32)
    logits, cache = model.forward(x_BT)
    model.forward(x_BT)
    with pytest.raises(ShapeError, match="stale"):
        model.backward(logits, cache)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_head": 2}, "model.n_head: unknown key. Known: n_layer, n_embd, seq_len, vocab_size"),
        ({}, "model.n_layer: a value is needed; set it"),
        (
            {"n_layer": 0, "n_embd": 4, "seq_len": 4, "vocab_size": 3},
            "model.n_layer: expected an integer >= 1, got 0",
        ),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CausalConv().configure(**values)
    assert str(caught.value) == message
