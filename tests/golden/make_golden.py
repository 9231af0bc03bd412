"""Write the golden files: what PyTorch computes for two small GPT-2 models, from given weights.

Run from anywhere, with an interpreter that has PyTorch::

    python tests/golden/make_golden.py

It overwrites ``gpt2_small_gelu.npz`` (with biases) and ``gpt2_small_gelu_tanh.npz`` (without), and
``gpt2_small_documents.npz``: both models on rows of several documents.
The weights are float32 numbers, so both precisions start from exactly the same model; they are
larger than a real initialization's, so that attention is far from uniform and no gradient is
lost in rounding.

What does not live here: the model (``benchmarks/sides/torch_gpt.py``), its pass over several
documents (``torch_documents.py``), the comparison
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
from torch_documents import documents_logits, documents_loss  # noqa: E402
from torch_gpt import GPT, make_adamw, train_update  # noqa: E402

MODEL = {"n_layer": 2, "n_head": 2, "n_embd": 16, "seq_len": 14, "vocab_size": 33}
VARIANTS = ({"activation": "gelu", "bias": True}, {"activation": "gelu_tanh", "bias": False})
BATCH, TIME, UPDATES = 3, 12, 5  # fewer than seq_len: the last positions have no gradient
IGNORED = ((0, 0, 3), (0, 1, 11), (0, 2, 5), (2, 0, 0), (3, 1, 2))  # update, row, time
LENGTHS = ((12,), (1, 5, 6), (4, 7, 1))  # of the documents of each row
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


def document_rows() -> Arrays:
    """Return the first batch as rows of documents; the last token of each has no target."""
    starts, ends = [], []
    for lengths in LENGTHS:
        ends.append(np.cumsum(lengths) - 1)
        starts.append(np.repeat(ends[-1] + 1 - lengths, lengths))
    x, y = (part[0].copy() for part in batches())
    for row, last in zip(y, ends, strict=True):
        row[last] = -100
    return {"x": x, "y": y, "start": np.stack(starts).astype(np.int32)}


def compute_documents(
    variant: dict[str, Any], weights: Arrays, dtype: torch.dtype, rows: Arrays
) -> Arrays:
    """One forward and backward on rows of documents."""
    x, y, start = (torch.from_numpy(rows[key].astype(np.int64)) for key in ("x", "y", "start"))
    model = load(variant, weights, dtype)
    logits = documents_logits(model, x, start)
    loss = documents_loss(logits, y)
    loss.backward()
    named = {f"gradient/{name}": p.grad for name, p in model.named_parameters()}
    return {
        key: copy(array)
        for key, array in {"logits": logits, "loss": loss, **named}.items()
        if array is not None
    }


def write(name: str, arrays: Arrays) -> None:
    """Write one file, beside this one."""
    path = Path(__file__).with_name(f"gpt2_small_{name}.npz")
    np.savez_compressed(path, **arrays, torch_version=np.array(torch.__version__))
    print(f"{path}: {path.stat().st_size} bytes")


def main() -> None:
    """Write one file for each variant, and one of both on documents."""
    documents = document_rows()
    found: Arrays = {}
    for variant in VARIANTS:
        config = {**MODEL, **variant}
        weights = start_weights(GPT(**config))
        x, y = batches()
        about = {"model": config, "adamw": ADAMW, "max_grad_norm": MAX_GRAD_NORM}
        arrays: Arrays = {"x": x, "y": y, "about": np.array(json.dumps(about))}
        arrays |= {f"weights/{name}": data for name, data in weights.items()}
        for dtype in (torch.float32, torch.float64):
            prefix = str(dtype).removeprefix("torch.")
            results = compute(variant, weights, dtype)
            arrays |= {f"{prefix}/{key}": value for key, value in results.items()}
            results = compute_documents(variant, weights, dtype, documents)
            prefix = f"{variant['activation']}/{prefix}"
            found |= {f"{prefix}/{key}": value for key, value in results.items()}
        write(variant["activation"], arrays)
    write("documents", {**documents, **found})


if __name__ == "__main__":
    main()
