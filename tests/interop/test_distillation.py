"""Distillation against its formula in PyTorch: the loss, and the gradient by the logits."""

from __future__ import annotations

import numpy as np
import pytest
from preference_runs import model_of

from tisslm.contracts import Batch
from tisslm.optim.losses import Distillation

torch = pytest.importorskip("torch")
F = pytest.importorskip("torch.nn.functional")


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (2.0, 0.3), (4.0, 1.0)])
def test_loss_and_gradient_are_those_of_pytorch(temperature: float, alpha: float) -> None:
    rng = np.random.default_rng(6)
    x_BT = rng.integers(0, 256, (2, 9)).astype(np.int32)
    y_N = rng.integers(0, 256, 18).astype(np.int32)
    y_N[4] = -100
    teacher = model_of(n_layer=1)
    weights_N = np.where(y_N == -100, 0.0, 1 / 17).astype(np.float32)
    logits_NV = rng.standard_normal((18, 256)).astype(np.float32) * 2
    z = torch.tensor(logits_NV, requires_grad=True)
    teacher.parameters["embedding.token.weight"].data *= 9.0  # so that it is sure of something
    y = torch.tensor(teacher.forward(x_BT)[0].reshape(18, 256))
    real, targets = torch.tensor(y_N != -100), torch.tensor(y_N, dtype=torch.long)
    soft = F.kl_div(
        F.log_softmax(z[real] / temperature, -1),
        F.log_softmax(y[real] / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )
    expected = (1 - alpha) * F.cross_entropy(z, targets) + alpha * temperature**2 * soft
    expected.backward()

    loss = Distillation(teacher=teacher, temperature=temperature, alpha=alpha)
    loss.begin(Batch(x_BT, y_N.reshape(2, 9), weights_N.reshape(2, 9)))
    found = loss.tile(logits_NV, y_N, weights_N)
    assert float(found.sum()) == pytest.approx(float(expected.detach()), rel=1e-5)
    gradient = z.grad.numpy()
    assert abs(logits_NV - gradient).max() < 1e-5 * abs(gradient).max()
