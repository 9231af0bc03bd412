"""Every loss and its gradient are PyTorch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.optim.losses import CrossEntropy, Focal, LabelSmoothing

with np.load(Path(__file__).with_name("golden.npz")) as file:
    GOLDEN = {name: file[name] for name in file.files}

CASES = {
    "cross_entropy": CrossEntropy(),
    "label_smoothing": LabelSmoothing(),
    "label_smoothing_half": LabelSmoothing(smoothing=0.5),
    "focal": Focal(),
    "focal_half": Focal(gamma=0.5),
}

#: float32 against float64: one exp and log of logits of size 6, which bring 6 roundings of 1e-7.
FLOAT32_LOSS = 2e-6


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", FLOAT64_ROUNDING), ("float32", FLOAT32_LOSS)]
)
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_mean_and_gradient(name, flat, dtype, tolerance):
    logits, targets = GOLDEN["logits"].astype(dtype), GOLDEN["targets"]
    if flat:
        logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    before = logits.copy()
    loss = CASES[name]
    assert loss.forward(logits, targets) == pytest.approx(
        float(GOLDEN[f"{name}/loss"]), rel=tolerance
    )
    gradient = loss.backward()
    assert gradient.shape == logits.shape
    assert gradient.dtype == dtype
    assert largest_error(gradient, GOLDEN[f"{name}/gradient"].reshape(logits.shape)) < tolerance
    assert np.array_equal(logits, before)
