"""Write the golden files: what PyTorch computes for two small GPT-2 models, from given weights.

Run from anywhere, with an interpreter that has PyTorch::

    python tests/golden/make_golden.py

It overwrites ``gpt2_small_gelu.npz`` (with biases) and ``gpt2_small_gelu_tanh.npz`` (without).
The weights are float32 numbers, so both precisions start from exactly the same model; they are
larger than a real initialization's, so that attention is far from uniform and no gradient is
lost in rounding.

What does not live here: the model (``benchmarks/sides/torch_gpt.py``), the comparison
(``tests/models/test_against_pytorch.py``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "sides"))
from torch_gpt import GPT, make_adamw, train_update  # noqa: E402

MODEL = {"n_layer": 2, "n_head": 2, "n_embd": 16, "seq_len": 14, "vocab_size": 33}
VARIANTS = ({"activation": "gelu", "bias": True}, {"activation": "gelu_tanh", "bias": False})
BATCH, TIME, UPDATES = 3, 12, 5  # fewer than seq_len: the last positions have no gradient
IGNORED = ((0, 0, 3), (0, 1, 11), (0, 2, 5), (2, 0, 0), (3, 1, 2))  # update, row, time
ADAMW = {"lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1}
MAX_GRAD_NORM = 1.0

Arrays = dict[str, NDArray[Any]]


def start_weights(model: GPT) -> Arrays:
    """Draw every parameter: norms around 1, matrices and biases around 0."""
    rng = np.random.default_rng(20)
    weights: Arrays = {}
    for name, parameter in model.named_parameters():
        centre = 1.0 if name.endswith("norm.weight") else 0.0
        drawn = centre + 0.3 * rng.standard_normal(tuple(parameter.shape))
        weights[name] = drawn.astype(np.float32)
    return weights


def batches() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Draw inputs and targets of every update, a few targets being -100."""
    rng = np.random.default_rng(21)
    shape = (UPDATES, BATCH, TIME)
    x = rng.integers(0, MODEL["vocab_size"], shape, dtype=np.int32)
    y = rng.integers(0, MODEL["vocab_size"], shape, dtype=np.int32)
    for place in IGNORED:
        y[place] = -100
    return x, y


def load(variant: dict[str, Any], weights: Arrays, dtype: torch.dtype) -> GPT:
    """Build the model with these weights."""
    model = GPT(**MODEL, **variant).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
    return model


def copy(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor's values as an array of its own."""
    return tensor.detach().numpy().copy()


def compute(variant: dict[str, Any], weights: Arrays, dtype: torch.dtype) -> Arrays:
    """One forward and backward on the first batch; then, from the start, five updates."""
    inputs = [torch.from_numpy(part.astype(np.int64)) for part in batches()]
    model = load(variant, weights, dtype)
    logits = model(inputs[0][0])
    loss = model(inputs[0][0], inputs[1][0])
    loss.backward()
    named = dict(model.named_parameters())
    out: Arrays = {"logits": copy(logits), "loss": copy(loss)}
    out |= {f"gradient/{name}": copy(p.grad) for name, p in named.items() if p.grad is not None}
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
    if norm < 1.1 * MAX_GRAD_NORM:
        raise SystemExit(f"the gradient norm is {norm:.3f}: this model would not be clipped")
    out["grad_norm"] = copy(norm)
    model = load(variant, weights, dtype)
    optimizer = make_adamw(model, **ADAMW)
    losses = [
        train_update(model, optimizer, x, y, MAX_GRAD_NORM) for x, y in zip(*inputs, strict=True)
    ]
    out["losses"] = np.array(losses)
    out |= {f"final/{name}": copy(p) for name, p in model.named_parameters()}
    return out


def main() -> None:
    """Write one file for each variant."""
    for variant in VARIANTS:
        config = {**MODEL, **variant}
        weights = start_weights(GPT(**config))
        x, y = batches()
        about = {"model": config, "adamw": ADAMW, "max_grad_norm": MAX_GRAD_NORM}
        arrays: Arrays = {"x": x, "y": y, "about": np.array(json.dumps(about))}
        arrays["torch_version"] = np.array(torch.__version__)
        arrays |= {f"weights/{name}": data for name, data in weights.items()}
        for dtype in (torch.float32, torch.float64):
            prefix = str(dtype).removeprefix("torch.")
            results = compute(variant, weights, dtype)
            arrays |= {f"{prefix}/{key}": value for key, value in results.items()}
        path = Path(__file__).with_name(f"gpt2_small_{variant['activation']}.npz")
        np.savez_compressed(path, **arrays)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
