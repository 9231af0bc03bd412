"""Make ``golden.npz``: losses and gradients by PyTorch's autograd, in float64.

Run with a Python that has PyTorch: ``python tests/optim/losses/make_golden.py``. The tests read the
file and need no PyTorch. Every loss is the mean over the targets that are not -100. PyTorch has
no focal loss; the paper's formula is written out and differentiated by autograd.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

B, T, V = 3, 4, 11


def focal(logits, targets, gamma: float):
    """Return the mean of ``-(1 - p)^gamma log p`` over the real targets."""
    real = targets != -100
    log_p = functional.log_softmax(logits[real], dim=-1)
    log_p = log_p.gather(1, targets[real][:, None])[:, 0]
    return (-((1 - log_p.exp()) ** gamma) * log_p).mean()


LOSSES = {
    "cross_entropy": functional.cross_entropy,
    "label_smoothing": lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.1),
    "label_smoothing_half": lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.5),
    "focal": lambda z, y: focal(z, y, 2.0),
    "focal_half": lambda z, y: focal(z, y, 0.5),
}


def main() -> None:
    """Write the file next to this one."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(B, T, V))
    targets = rng.integers(0, V, size=(B, T))
    targets[0, 1] = targets[2, 3] = -100
    arrays = {"logits": logits, "targets": targets, "torch": torch.__version__}
    for name, loss in LOSSES.items():
        z = torch.tensor(logits, requires_grad=True)
        value = loss(z.reshape(-1, V), torch.tensor(targets).reshape(-1))
        value.backward()
        arrays |= {f"{name}/loss": value.item(), f"{name}/gradient": z.grad.numpy()}
    np.savez_compressed(Path(__file__).with_name("golden.npz"), **arrays)


if __name__ == "__main__":
    main()
