"""DPO against TRL's formulas in PyTorch: the loss, the rewards, and the gradients of a model.

TRL itself is not asked: ``get_batch_logps`` and ``dpo_loss`` of its trainer are written out here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from preference_runs import model_of, pairs_of, rows_of, trainer_of
from tolerances import largest_error

from tisslm.optim.losses import DPO

torch = pytest.importorskip("torch")
F = pytest.importorskip("torch.nn.functional")

CASES: list[dict[str, Any]] = [
    {"beta": 0.1},
    {"beta": 0.5, "label_smoothing": 0.1},
    {"beta": 0.3, "loss_type": "hinge"},
    {"beta": 0.2, "loss_type": "ipo"},
    {"beta": 0.4, "reference_free": True},
]


def log_probabilities(logits: Any, labels: Any, *, average: bool) -> Any:
    """Return what TRL's get_batch_logps returns of one text."""
    mask = labels != -100
    chosen = torch.gather(logits.log_softmax(-1), 1, labels.clamp(min=0)[:, None])[:, 0]
    total = (chosen * mask).sum()
    return total / mask.sum() if average else total


def dpo_loss(policy: Any, reference: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """Return TRL's losses and rewards of log-probabilities of shape (2, P)."""
    beta, e = options["beta"], options.get("label_smoothing", 0.0)
    if options.get("reference_free"):
        reference = torch.zeros_like(reference)
    logits = (policy[0] - policy[1]) - (reference[0] - reference[1])
    kind = options.get("loss_type", "sigmoid")
    if kind == "sigmoid":
        losses = -F.logsigmoid(beta * logits) * (1 - e) - F.logsigmoid(-beta * logits) * e
    elif kind == "hinge":
        losses = torch.relu(1 - beta * logits)
    else:
        losses = (logits - 1 / (2 * beta)) ** 2
    return losses, beta * (policy - reference).detach()


@pytest.mark.parametrize("options", CASES, ids=str)
def test_loss_rewards_and_gradients_are_those_of_trl(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    dataset, count = pairs_of(6), 6
    lengths = np.array([dataset.window(i).others["pair"] for i in range(count)])
    dataset.reference = -2.0 * lengths + np.random.default_rng(2).standard_normal((count, 2))
    model, average = model_of(family="llama"), options.get("loss_type") == "ipo"
    trainer = trainer_of(tmp_path, model=model, dataset=dataset, loss=DPO(**options))

    logits, policy, reference = [], [[], []], torch.empty(2, count)
    for i in range(count):
        row, begin = dataset.window(i), 0
        for k in (0, 1):
            part = slice(begin, begin + int(lengths[i, k]))
            begin = part.stop
            z = torch.tensor(model.forward(row.x[None, part])[0][0], requires_grad=True)
            labels = torch.tensor(row.y[part], dtype=torch.long)
            logits.append((row.x[None, part], z))
            policy[k].append(log_probabilities(z, labels, average=average))
            reference[k, i] = dataset.reference[i, k] / ((labels != -100).sum() if average else 1)
    losses, rewards = dpo_loss(
        torch.stack([torch.stack(each) for each in policy]), reference, options
    )
    losses.mean().backward()
    losses = losses.detach()
    model.parameters.zero_grad()
    for x, z in logits:
        _, cache = model.forward(x)
        model.backward(z.grad.numpy()[None], cache)
    expected = model.parameters.grad.copy()

    found = trainer.session.step.gradients(rows_of(dataset, 0, count))
    assert found.loss == pytest.approx(float(losses.mean()), rel=1e-5)
    assert largest_error(model.parameters.grad, expected) < 1e-5
    measured = trainer.loss_fn.metrics()
    chosen, rejected = rewards[0], rewards[1]
    assert measured["rewards/chosen"] == pytest.approx(float(chosen.mean()), rel=1e-5)
    assert measured["rewards/rejected"] == pytest.approx(float(rejected.mean()), rel=1e-5)
    assert measured["rewards/margins"] == pytest.approx(float((chosen - rejected).mean()), rel=1e-4)
    right = float((chosen > rejected).float().mean())
    assert measured["rewards/accuracies"] == pytest.approx(right)
