"""Lion: numbers by hand, what decays, blocks, clipping, state, and what it refuses."""

from __future__ import annotations

import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tisslm_lion
from numpy.typing import NDArray
from tisslm_lion import reference
from tisslm_lion.lion import Lion, lion_update

from tisslm import ops
from tisslm.errors import CheckpointError, ConfigError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.testing import check_kernel

Array = NDArray[Any]

#: Elements of one block of the kernel.
BLOCK = 16384

#: A few roundings of float64.
ROUNDING = 1e-14


def make(*specs: ParameterSpec, dtype: str = "float64", seed: int = 1) -> Parameters:
    parameters = Parameters(specs, dtype)
    rng = np.random.default_rng(seed)
    for parameter in parameters:
        parameter.data[...] = rng.normal(size=parameter.shape)
    return parameters


def set_gradients(parameters: Parameters, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for parameter in parameters:
        parameter.grad[...] = rng.normal(size=parameter.shape)


def test_two_steps_by_hand() -> None:
    parameters = make(ParameterSpec("w", (2, 1)))
    w = parameters["w"]
    w.data[...] = [[1.0], [-2.0]]
    optimizer = Lion(parameters, 0.1, beta1=0.9, beta2=0.99, weight_decay=0.5)

    w.grad[...] = [[10.0], [-0.3]]
    optimizer.step()
    # p - lr (sign(g) + 0.5 p): 1 - 0.1 (1 + 0.5) and -2 - 0.1 (-1 - 1)
    np.testing.assert_allclose(w.data, [[0.85], [-1.8]], rtol=ROUNDING)
    np.testing.assert_allclose(optimizer.state()["w/momentum"], [[0.1], [-0.003]], rtol=ROUNDING)

    w.grad[...] = [[-0.5], [0.0]]
    optimizer.step()
    # c = 0.9 * 0.1 - 0.1 * 0.5 = 0.04: the momentum outvotes the gradient
    np.testing.assert_allclose(w.data, [[0.85 - 0.1 * 1.425], [-1.8 + 0.1 * 1.9]], rtol=ROUNDING)
    np.testing.assert_allclose(
        optimizer.state()["w/momentum"], [[0.094], [-0.00297]], rtol=ROUNDING
    )


def test_a_gradient_of_zero_moves_nothing() -> None:
    parameters = make(ParameterSpec("w", (3, 3)))
    before = parameters["w"].data.copy()
    Lion(parameters, 0.1).step()
    np.testing.assert_array_equal(parameters["w"].data, before)


def test_weight_decay_shrinks_matrices_only() -> None:
    parameters = make(ParameterSpec("w", (4, 4)), ParameterSpec("b", (4,), decay=False))
    before = {p.name: p.data.copy() for p in parameters}
    Lion(parameters, 0.1, weight_decay=0.2).step()
    np.testing.assert_allclose(parameters["w"].data, before["w"] * 0.98, rtol=ROUNDING)
    np.testing.assert_array_equal(parameters["b"].data, before["b"])


def test_lr_scale_multiplies_step_and_decay() -> None:
    parameters = make(ParameterSpec("w", (4, 4)), ParameterSpec("slow", (4, 4), lr_scale=0.25))
    set_gradients(parameters, 2)
    before = {p.name: p.data.copy() for p in parameters}
    Lion(parameters, 0.1, weight_decay=0.5).step()
    for parameter in parameters:
        moved = parameter.data - before[parameter.name]
        rule = np.sign(parameter.grad) + 0.5 * before[parameter.name]
        # the difference of numbers near 1 keeps their absolute rounding
        np.testing.assert_allclose(moved, -0.1 * parameter.lr_scale * rule, atol=1e-15)


def test_the_learning_rate_of_the_moment_is_used() -> None:
    parameters = make(ParameterSpec("w", (2, 2)))
    set_gradients(parameters, 3)
    before = parameters["w"].data.copy()
    optimizer = Lion(parameters, 0.1)
    optimizer.set_lr(0.003)
    optimizer.step()
    np.testing.assert_allclose(np.abs(parameters["w"].data - before), 0.003, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_do_not_show(dtype: str) -> None:
    shape = (3, BLOCK // 2 + 7)  # one block and a half, with a ragged end
    parameters = make(ParameterSpec("w", shape), ParameterSpec("b", (5,), decay=False), dtype=dtype)
    w = parameters["w"]
    expected, momentum = w.data.astype(np.float64), np.zeros(shape)
    optimizer = Lion(parameters, 0.01, weight_decay=0.1)
    for step in range(3):
        set_gradients(parameters, step)
        g = w.grad.astype(np.float64)
        expected -= 0.01 * (np.sign(0.9 * momentum + 0.1 * g) + 0.1 * expected)
        momentum += 0.01 * (g - momentum)
        optimizer.step()
    # three steps round numbers of size 3 a few times each
    tolerance = 3 * 8 * float(np.finfo(dtype).eps)
    assert np.abs(w.data - expected).max() < tolerance
    assert np.abs(optimizer.state()["w/momentum"] - momentum).max() < tolerance


def arguments(size: int) -> dict[str, Any]:
    rng = np.random.default_rng(size)
    arrays = {n: rng.normal(size=size).astype(np.float32) for n in ("p_P", "g_P", "m_P")}
    rates = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "grad_scale": 0.7}
    return arrays | rates


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="everything runs the twin")
def test_the_kernel_is_its_twin() -> None:
    sizes = (1, 15, BLOCK, 3 * BLOCK + 77)
    # a product, a difference and a sum, each rounded, of numbers of the largest one's size
    report = check_kernel(lion_update, *map(arguments, sizes), tolerance=4 * 2.0**-23)
    assert report.n_assertions > 0


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="everything runs the twin")
def test_the_kernel_has_the_bits_of_its_twin_in_float32() -> None:
    """Also for what is no number, is infinite, or has no sign."""
    by_kernel, by_twin = arguments(BLOCK + 9), arguments(BLOCK + 9)
    for given in (by_kernel, by_twin):
        given["g_P"][:4] = [np.nan, np.inf, -np.inf, 0.0]
        given["m_P"][:4] = 0.0
    lion_update(*by_kernel.values())
    reference.lion_update(*by_twin.values())
    for name in ("p_P", "m_P"):
        np.testing.assert_array_equal(by_kernel[name], by_twin[name])


def test_padding_stays_zero() -> None:
    parameters = make(ParameterSpec("a", (3,)), ParameterSpec("b", (5,)))
    used = np.zeros(parameters.data.size, dtype=bool)
    for parameter in parameters:
        used[parameter.offset : parameter.offset + parameter.data.size] = True
    assert not used.all()
    set_gradients(parameters, 4)
    Lion(parameters, 0.1, weight_decay=0.1).step()
    assert not parameters.data[~used].any()


def test_it_reaches_the_minimum_of_a_quadratic() -> None:
    parameters = make(ParameterSpec("w", (5, 4)))
    w = parameters["w"]
    target = np.random.default_rng(5).normal(size=w.shape)
    curvature = np.geomspace(0.01, 100.0, w.data.size).reshape(w.shape)
    optimizer = Lion(parameters, 0.1)
    for step in range(400):
        optimizer.set_lr(0.1 * 0.98**step)
        w.grad[...] = curvature * (w.data - target)
        optimizer.step()
    # the last rates add up to 0.1 * 0.98^400 / 0.02 = 0.0015, all that a step can be off by
    assert np.abs(w.data - target).max() < 0.01


def test_a_pending_clip_equals_scaled_gradients() -> None:
    results = []
    for clip in (True, False):
        parameters = make(ParameterSpec("w", (7, 3)), dtype="float32")
        optimizer = Lion(parameters, 0.1)
        for step in range(3):
            set_gradients(parameters, step)
            if clip:
                optimizer.scale_next_step(0.37)
            else:
                parameters["w"].grad[...] *= np.float32(0.37)
            optimizer.step()
        results.append(optimizer.state()["w/momentum"].copy())
    np.testing.assert_array_equal(results[0], results[1])


def test_resuming_from_the_state_gives_the_same_bits() -> None:
    specs = (ParameterSpec("w", (9, 5)), ParameterSpec("b", (5,), decay=False))
    whole, first = make(*specs, dtype="float32"), make(*specs, dtype="float32")
    uninterrupted, before = Lion(whole, 0.1, weight_decay=0.1), Lion(first, 0.1, weight_decay=0.1)
    for step in range(3):
        for parameters, optimizer in ((whole, uninterrupted), (first, before)):
            set_gradients(parameters, step)
            optimizer.step()
    saved = {name: array.copy() for name, array in before.state().items()}
    assert sorted(saved) == ["b/momentum", "w/momentum"]
    assert saved["w/momentum"].shape == (9, 5)

    second = make(*specs, dtype="float32", seed=9)
    second.data[...] = first.data
    after = Lion(second, 0.1, weight_decay=0.1)
    after.load_state(saved)
    for step in range(3, 6):
        for parameters, optimizer in ((whole, uninterrupted), (second, after)):
            set_gradients(parameters, step)
            optimizer.step()
    np.testing.assert_array_equal(whole.data, second.data)


def test_a_state_of_another_model_is_refused() -> None:
    saved = Lion(make(ParameterSpec("w", (2, 2))), 0.1).state()
    with pytest.raises(CheckpointError, match="the saved state does not fit"):
        Lion(make(ParameterSpec("v", (2, 2))), 0.1).load_state(saved)


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twin makes arrays")
def test_a_step_allocates_no_arrays() -> None:
    parameters = make(ParameterSpec("w", (8, BLOCK)), dtype="float32")
    set_gradients(parameters, 6)
    optimizer = Lion(parameters, 0.1, weight_decay=0.1)
    optimizer.step()
    tracemalloc.start()
    try:
        optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * BLOCK, f"{peak} bytes in one step; a block of float32 is {4 * BLOCK}"


def test_a_model_without_trainable_parameters_is_left_alone() -> None:
    parameters = make(ParameterSpec("w", (2, 2), trainable=False))
    optimizer = Lion(parameters, 0.1)
    optimizer.step()
    assert optimizer.state() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta1": 1.0}, "optimizer lion: beta1: expected a number in [0, 1), got 1.0"),
        ({"beta2": -0.1}, "optimizer lion: beta2: expected a number in [0, 1), got -0.1"),
        ({"beta1": "0.9"}, "optimizer lion: beta1: expected a number in [0, 1), got '0.9'"),
        (
            {"weight_decay": float("nan")},
            "optimizer lion: weight_decay: expected a finite number >= 0, got nan",
        ),
        (
            {"weight_decay": True},
            "optimizer lion: weight_decay: expected a finite number >= 0, got True",
        ),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Lion(make(ParameterSpec("w", (2, 2))), 0.1, **options)
    assert str(caught.value) == message


def test_the_entry_point_names_the_hook_module_and_the_hook_the_class() -> None:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    assert tomllib.loads(text)["project"]["entry-points"] == {"tisslm": {"lion": "tisslm_lion"}}
    (entry,) = tisslm_lion.tisslm_optimizers()
    assert (entry.name, entry.target) == ("lion", f"{Lion.__module__}:{Lion.__qualname__}")
