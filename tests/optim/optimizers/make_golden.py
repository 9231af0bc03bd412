"""Make ``golden.npz``: five steps of each of PyTorch's optimizers in float64.

Run with a Python that has PyTorch: ``python tests/optim/optimizers/make_golden.py``. The tests read
the file and need no PyTorch. It holds the start and the gradients of two tensors, ``configs``
(JSON: our name and options for each case), and for each case both tensors after every step. The
second tensor has half the learning rate and no weight decay.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

STEPS, LR = 5, 0.05

CONFIGS = {
    "sgd": ("sgd", {}),
    "sgd_decay": ("sgd", {"weight_decay": 0.1}),
    "sgd_momentum": ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    "sgd_nesterov": ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": ("adam", {}),
    "adam_decay": ("adam", {"beta1": 0.8, "beta2": 0.95, "eps": 1e-4, "weight_decay": 0.1}),
    "adamw": ("adamw", {}),
    "adamw_options": ("adamw", {"beta1": 0.8, "beta2": 0.95, "eps": 1e-4, "weight_decay": 0.1}),
    "rmsprop": ("rmsprop", {}),
    "rmsprop_momentum": ("rmsprop", {"alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1}),
    "rmsprop_centered": ("rmsprop", {"alpha": 0.9, "centered": True, "eps": 1e-4}),
    "rmsprop_everything": (
        "rmsprop",
        {"alpha": 0.9, "momentum": 0.8, "centered": True, "weight_decay": 0.1},
    ),
}

CLASSES = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}


def torch_options(options: dict[str, object]) -> dict[str, object]:
    """Turn our options into PyTorch's: both betas, or neither, become a pair."""
    options = dict(options)
    if "beta1" in options:
        options["betas"] = (options.pop("beta1"), options.pop("beta2"))
    return options


def trajectory(name: str, options: dict[str, object], start, gradients) -> list[np.ndarray]:
    """Return both tensors after each step, of shapes (STEPS, ...)."""
    tensors = [torch.tensor(x, requires_grad=True) for x in start]
    groups = [
        {"params": tensors[0]},
        {"params": tensors[1], "lr": LR / 2, "weight_decay": 0.0},
    ]
    optimizer = CLASSES[name](groups, lr=LR, **torch_options(options))
    after = [[], []]
    for t in range(STEPS):
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = torch.tensor(gradient[t])
        optimizer.step()
        for values, tensor in zip(after, tensors, strict=True):
            values.append(tensor.detach().numpy().copy())
    return [np.stack(values) for values in after]


def main() -> None:
    """Write the file next to this one."""
    rng = np.random.default_rng(0)
    shapes = [(3, 5), (7,)]
    start = [rng.normal(size=shape) for shape in shapes]
    gradients = [rng.normal(size=(STEPS, *shape)) for shape in shapes]
    arrays = {"configs": json.dumps(CONFIGS), "lr": LR, "torch": torch.__version__}
    for i in range(2):
        arrays |= {f"start/{i}": start[i], f"gradients/{i}": gradients[i]}
    for case, (name, options) in CONFIGS.items():
        for i, after in enumerate(trajectory(name, options, start, gradients)):
            arrays[f"{case}/{i}"] = after
    np.savez_compressed(Path(__file__).with_name("golden.npz"), **arrays)


if __name__ == "__main__":
    main()
