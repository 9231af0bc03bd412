"""Ten steps in float32 beside those of PyTorch and of optax, where these are installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from optimizer_examples import LR, STEPS, gradients, make, train
from tisslm_optimizers.adafactor import Adafactor
from tisslm_optimizers.lamb import Lamb
from tisslm_optimizers.muon import Muon
from tisslm_optimizers.schedule_free import ScheduleFreeAdamW

from tisslm.memory import Parameters, ParameterSpec

Array = NDArray[Any]

#: No fused products, which are single parameters to others, and one learning rate.
SPECS = (
    ParameterSpec("up.weight", (23, 40)),
    ParameterSpec("down.weight", (40, 23)),
    ParameterSpec("bias", (23,), decay=False),
)
#: Roundings of ten steps of lengths near 0.02, by other orders of sums.
CLOSE = 1e-5


def ours(build: Callable[[Parameters], Any]) -> Parameters:
    parameters = make("float32", SPECS)
    optimizer = build(parameters)
    train(optimizer, SPECS)
    if optimizer.has_average:
        optimizer.show_average(True)
    return parameters


def near(found: Parameters, expected: dict[str, Array]) -> None:
    for name, array in expected.items():
        np.testing.assert_allclose(found[name].data, array, rtol=0, atol=CLOSE, err_msg=name)


# -------------------------------------------------------------------------- PyTorch


def by_torch(build: Callable[[list[Any]], Any], names: tuple[str, ...]) -> dict[str, Array]:
    torch = importlib.import_module("torch")
    start = make("float32", SPECS)
    values = {name: torch.nn.Parameter(torch.tensor(start[name].data)) for name in names}
    optimizer = build(list(values.values()))
    for step in range(STEPS):
        for name, value in values.items():
            value.grad = torch.tensor(gradients(step, SPECS)[name])
        optimizer.step()
    return {name: value.detach().numpy() for name, value in values.items()}


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_pytorchs(adjust: str, nesterov: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch rounds to bf16 before it multiplies; without that, it is the same iteration."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    options = {"nesterov": nesterov, "weight_decay": 0.1}
    expected = by_torch(
        lambda values: torch.optim.Muon(values, lr=LR, adjust_lr_fn=adjust, **options),
        ("up.weight", "down.weight"),
    )
    near(ours(lambda p: Muon(p, LR, adjust_lr=adjust, **options)), expected)


def test_adafactor_is_pytorchs_where_no_square_is_small() -> None:
    """PyTorch has eps1 elsewhere, which only shows in gradients near zero."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    names = tuple(spec.name for spec in SPECS)
    expected = by_torch(
        lambda values: torch.optim.Adafactor(values, lr=LR, weight_decay=0.0), names
    )
    near(ours(lambda p: Adafactor(p, LR)), expected)


# ---------------------------------------------------------------------------- optax


def by_optax(
    transformation: Any, shown: Callable[[Any, Any], Any] = lambda state, values: values
) -> dict[str, Array]:
    optax, jax = importlib.import_module("optax"), importlib.import_module("jax")
    # matrices of JAX have a column for each output
    values: Any = {p.name: jax.numpy.asarray(p.data.T) for p in make("float32", SPECS)}
    state = transformation.init(values)
    for step in range(STEPS):
        found = {name: array.T for name, array in gradients(step, SPECS).items()}
        updates, state = transformation.update(found, state, values)
        values = optax.apply_updates(values, updates)
    return {name: np.asarray(value).T for name, value in shown(state, values).items()}


MASK = {spec.name: spec.decay for spec in SPECS}


def test_lamb_is_optaxs() -> None:
    optax = pytest.importorskip("optax", reason="optax is not installed")
    expected = by_optax(optax.lamb(LR, weight_decay=0.1, mask=MASK))
    near(ours(lambda p: Lamb(p, LR, weight_decay=0.1)), expected)


def test_schedule_free_adamw_is_optaxs() -> None:
    optax = pytest.importorskip("optax", reason="optax is not installed")
    free = optax.contrib.schedule_free_adamw(LR, b1=0.9, weight_decay=0.0)
    expected = by_optax(free, optax.contrib.schedule_free_eval_params)
    near(ours(lambda p: ScheduleFreeAdamW(p, LR, weight_decay=0.0)), expected)


def test_muon_is_optaxs() -> None:
    """Without Nesterov's momentum, whose first steps optax corrects."""
    optax = pytest.importorskip("optax", reason="optax is not installed")
    muon = optax.contrib.muon(LR, nesterov=False, adam_b1=0.9, adam_b2=0.95, eps=1e-7)
    expected = by_optax(muon)
    expected.pop("bias")
    near(
        ours(lambda p: Muon(p, LR, nesterov=False, adjust_lr="original", weight_decay=0.0)),
        expected,
    )
