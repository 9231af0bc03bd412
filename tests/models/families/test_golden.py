"""A small model of each family against what transformers computed, by ``make_families.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tolerances import largest_error

from tisslm import Transformer, TransformerConfig
from tisslm.contracts import Batch, target_weights
from tisslm.optim.losses.cross_entropy import CrossEntropy

GOLDEN = Path(__file__).parents[2] / "golden"
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gpt_neox"]

# What the project promises. In float64, the float32 of transformers is what rounds.
LOGITS, GRADIENTS = 1e-5, 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_loss_and_gradients_are_those_of_transformers(family: str, dtype: str) -> None:
    with np.load(GOLDEN / f"family_{family}.npz") as file:
        arrays = {name: file[name] for name in file.files}
    config = TransformerConfig(**json.loads(str(arrays["about"]))["model"])
    model = Transformer(config, seed=0, dtype=dtype)
    names = {name.removeprefix("weights/") for name in arrays if name.startswith("weights/")}
    assert names == {p.name for p in model.parameters}
    for parameter in model.parameters:
        parameter.data[...] = arrays[f"weights/{parameter.name}"]
        parameter.grad[...] = np.nan  # a fresh gradient is overwritten, or this shows
    model.parameters.zero_grad()

    logits, _ = model.forward(arrays["x"])
    assert largest_error(logits, arrays["logits"]) <= LOGITS
    weights = target_weights(arrays["y"], model.parameters.dtype)
    loss = model.step_loss(Batch(arrays["x"], arrays["y"], weights), CrossEntropy())
    assert loss == pytest.approx(float(arrays["loss"]), rel=LOGITS)
    errors = {p.name: largest_error(p.grad, arrays[f"gradient/{p.name}"]) for p in model.parameters}
    assert all(error <= GRADIENTS for error in errors.values()), errors
