"""Groups, rates by layer and the average of the weights against PyTorch's own."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.config import EmaConfig, GroupConfig
from tisslm.memory import Parameters, ParameterSpec
from tisslm.memory.grouping import arrange
from tisslm.optim.optimizers import AdamW
from tisslm.optim.weight_average import WeightAverage

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

LR, DECAY, KEPT, STEPS = 0.01, 0.1, 0.9, 12

#: Learning rate and weight decay of each parameter, by hand.
RULES = {
    "embedding.weight": (0.5**3 * LR, DECAY),
    "blocks.0.up.weight": (0.5**2 * LR, DECAY),
    "blocks.0.norm.weight": (0.5**2 * LR, 0.2),
    "blocks.1.up.weight": (0.5 * LR, DECAY),
    "blocks.1.up.bias": (0.5 * LR, 0.0),
    "head.weight": (3.0 * LR, 0.3),
}
GROUPS = [
    GroupConfig(match="head.*", lr_scale=3.0, weight_decay=0.3),
    GroupConfig(match="*norm*", weight_decay=0.2),
]


class Module(torch.nn.Module):
    """Parameters alone."""

    def __init__(self, values: list[np.ndarray]) -> None:
        super().__init__()
        self.kept = torch.nn.ParameterList(torch.nn.Parameter(torch.tensor(v)) for v in values)


def test_groups_and_averages_are_pytorchs() -> None:
    rng = np.random.default_rng(0)
    specs = [
        ParameterSpec(name, (6, 5), decay="norm" not in name and "bias" not in name)
        for name in RULES
    ]
    ours = Parameters(arrange(specs, GROUPS, 0.5), "float64")
    for p in ours:
        p.data[...] = rng.normal(size=p.shape)
    theirs = Module([p.data for p in ours])
    named = list(zip(RULES.values(), theirs.kept, strict=True))
    updates = torch.optim.AdamW(
        [{"params": [q], "lr": lr, "weight_decay": decay} for (lr, decay), q in named]
    )
    swa = torch.optim.swa_utils
    mean = swa.AveragedModel(theirs, multi_avg_fn=swa.get_ema_multi_avg_fn(KEPT))
    optimizer = AdamW(ours, LR, weight_decay=DECAY)
    average = WeightAverage(ours, EmaConfig(decay=KEPT, warmup=False))
    for _ in range(STEPS):
        optimizer.zero_grad()
        for p, q in zip(ours, theirs.kept, strict=True):
            p.grad_to_write()[0][...] = rng.normal(size=p.shape)
            q.grad = torch.tensor(p.grad)
        optimizer.step()
        average.update()
        updates.step()
        mean.update_parameters(theirs)
    for p, q, m in zip(ours, theirs.kept, mean.module.kept, strict=True):
        assert np.abs(p.data - q.detach().numpy()).max() < 1e-12, p.name
        assert np.abs(average.state()[f"{p.name}/average"] - m.detach().numpy()).max() < 1e-12
