"""Ten steps in float64 are those of the published formula, written here a second time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from optimizer_examples import LR, SPECS, STEPS, blocks, gradients, make, train
from tisslm_optimizers.adafactor import Adafactor
from tisslm_optimizers.adam8bit import Adam8bit
from tisslm_optimizers.lamb import Lamb
from tisslm_optimizers.muon import Muon
from tisslm_optimizers.schedule_free import ScheduleFreeAdamW

Array = NDArray[Any]
Start = dict[str, Array]

#: Some hundred roundings of float64.
EXACT = 1e-12
DECAY = 0.1


def rule(name: str) -> tuple[float, float]:
    """Return the learning rate and the weight decay of a parameter."""
    spec = next(spec for spec in SPECS if spec.name == name)
    return LR * spec.lr_scale, DECAY if spec.decay else 0.0


def steps_of(values: Start) -> list[Start]:
    return [{k: g.astype(np.float64) for k, g in gradients(t).items()} for t in range(STEPS)]


def adamw(values: Start, name: str, beta2: float, eps: float) -> None:
    m = v = np.zeros_like(values[name])
    lr, decay = rule(name)
    for t, found in enumerate(steps_of(values), 1):
        g = found[name]
        m, v = 0.9 * m + 0.1 * g, beta2 * v + (1 - beta2) * g * g
        step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        values[name] = values[name] - lr * decay * values[name] - lr * step


def orthogonalized(u: Array) -> Array:
    """Jordan's iteration, of the matrix or of its transpose, whichever is wide."""
    if u.shape[0] > u.shape[1]:
        return orthogonalized(u.T).T
    x = u / max(np.linalg.norm(u), 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x


def muon(values: Start, *, original: bool, nesterov: bool) -> None:
    for spec in SPECS:
        if len(spec.shape) < 2 or spec.name.startswith(("embedding", "head")):
            adamw(values, spec.name, 0.95, 1e-8)
            continue
        lr, decay = rule(spec.name)
        for rows in blocks(spec):
            p = values[spec.name][rows]
            m = np.zeros_like(p)
            for found in steps_of(values):
                g = found[spec.name][rows]
                m = 0.95 * m + 0.05 * g
                o = orthogonalized(0.05 * g + 0.95 * m if nesterov else m)
                long, wide = p.shape
                adjusted = (
                    math.sqrt(max(1, long / wide)) if original else 0.2 * math.sqrt(max(long, wide))
                )
                p = p * (1 - lr * decay) - lr * adjusted * o
            values[spec.name][rows] = p


def lamb(values: Start) -> None:
    for spec in SPECS:
        lr, decay = rule(spec.name)
        for rows in blocks(spec):
            p = values[spec.name][rows]
            m = v = np.zeros_like(p)
            for t, found in enumerate(steps_of(values), 1):
                g = found[spec.name][rows]
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                r = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * p
                p = p - lr * np.linalg.norm(p) / np.linalg.norm(r) * r
            values[spec.name][rows] = p


def adafactor(values: Start) -> None:
    for spec in SPECS:
        lr, decay = rule(spec.name)
        for rows in blocks(spec):
            p = values[spec.name][rows]
            row: Any = 0.0
            column: Any = 0.0
            whole: Any = 0.0
            for t, found in enumerate(steps_of(values), 1):
                g = found[spec.name][rows]
                beta = 1 - t**-0.8
                square = g * g + 1e-30
                if g.ndim == 2:
                    row = beta * row + (1 - beta) * square.sum(axis=1)
                    column = beta * column + (1 - beta) * square.sum(axis=0)
                    whole = np.outer(row, column) / row.sum()
                else:
                    whole = beta * whole + (1 - beta) * square
                u = g / np.sqrt(whole)
                u = u / max(1.0, math.sqrt(np.mean(u * u)))
                alpha = max(1e-3, math.sqrt(np.mean(p * p))) * min(lr, 1 / math.sqrt(t))
                p = p - lr * decay * p - alpha * u
            values[spec.name][rows] = p


def schedule_free(values: Start) -> dict[str, Array]:
    """Leave y in the values, and return x."""
    averages = {}
    for name in values:
        lr, decay = rule(name)
        x = z = y = values[name]
        v, total = np.zeros_like(x), 0.0
        for t, found in enumerate(steps_of(values), 1):
            g = found[name]
            v = 0.999 * v + 0.001 * g * g
            z = z - lr * (g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * y)
            total += lr**2
            c = lr**2 / total
            x = (1 - c) * x + c * z
            y = 0.1 * z + 0.9 * x
        averages[name], values[name] = x, y
    return averages


def bitsandbytes_map(signed: bool) -> Array:
    """The authors' ``create_dynamic_map``, of 7 exponents and 8 bits, as it is there."""
    data: list[float] = []
    for i in range(7):
        items = 2**i + 1 if signed else 2 ** (i + 1) + 1
        edges = np.linspace(0.1, 1, items)
        means = (edges[:-1] + edges[1:]) / 2.0
        data += ((10 ** (-6 + i)) * means).tolist()
        if signed:
            data += (-(10 ** (-6 + i)) * means).tolist()
    return np.array(sorted([*data, 0.0, 1.0]), np.float32).astype(np.float64)


def rounded(x: Array, levels: Array) -> Array:
    """Replace each number by the level nearest to it, of the largest of its block of 256."""
    flat = x.reshape(-1)
    for first in range(0, flat.size, 256):
        block = flat[first : first + 256]
        most = np.abs(block).max() or 1.0
        block[...] = levels[np.abs(block[:, None] / most - levels).argmin(axis=1)] * most
    return flat.reshape(x.shape)


def adam8bit(values: Start) -> None:
    signed, unsigned = bitsandbytes_map(True), bitsandbytes_map(False)
    assert len(signed) == len(unsigned) == 256
    for name in values:
        m = v = np.zeros_like(values[name])
        lr, decay = rule(name)
        for t, found in enumerate(steps_of(values), 1):
            g = found[name]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            values[name] = values[name] - lr * decay * values[name] - lr * step
            m, v = rounded(m.copy(), signed), rounded(v.copy(), unsigned)


@pytest.mark.parametrize(
    ("build", "options", "formula"),
    [
        (Muon, {}, lambda v: muon(v, original=False, nesterov=True)),
        (
            Muon,
            {"adjust_lr": "original", "nesterov": False},
            lambda v: muon(v, original=True, nesterov=False),
        ),
        (Lamb, {}, lamb),
        (Adafactor, {}, adafactor),
        (ScheduleFreeAdamW, {}, schedule_free),
        (Adam8bit, {"full_below": 0}, adam8bit),
    ],
    ids=["muon", "muon original", "lamb", "adafactor", "schedule_free_adamw", "adam8bit"],
)
def test_ten_steps_are_the_published_ones(
    build: Any, options: dict[str, Any], formula: Callable[[Start], object]
) -> None:
    parameters = make("float64")
    expected = {p.name: p.data.copy() for p in parameters}
    train(build(parameters, LR, weight_decay=DECAY, **options))
    formula(expected)
    for p in parameters:
        np.testing.assert_allclose(p.data, expected[p.name], rtol=0, atol=EXACT, err_msg=p.name)


def test_the_average_that_is_shown_is_the_published_one() -> None:
    parameters = make("float64")
    expected = schedule_free({p.name: p.data.copy() for p in parameters})
    optimizer = ScheduleFreeAdamW(parameters, LR, weight_decay=DECAY)
    train(optimizer)
    optimizer.show_average(True)
    for p in parameters:
        np.testing.assert_allclose(p.data, expected[p.name], rtol=0, atol=EXACT, err_msg=p.name)
