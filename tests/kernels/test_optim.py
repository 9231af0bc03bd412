"""The compiled updates and flat operations against their twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerances import EPS32, FEW_ROUNDINGS, FLOAT64_ROUNDING, largest_error

from tisslm.ops.reference import optim as reference

BLOCK = 16384
SIZES = [1, 15, 16, 17, 4097, BLOCK, BLOCK + 1, 40000]

#: A running mean, and a step of lr = 0.01 on top of a parameter: a handful of roundings, of which
#: only the last few are as large as the result.
UPDATE = 4 * EPS32

#: The centered form divides by the root of a difference, here no smaller than a tenth of its terms.
CENTERED = 16 * EPS32


def sgd(normal, P, *, momentum=0.9, nesterov=False, first=False, decay=0.1, grad_scale=0.7):
    return "sgd_update", {
        "p_P": normal(0, P),
        "g_P": normal(1, P),
        "momentum_P": (np.full(P, np.nan, np.float32) if first else normal(2, P))
        if momentum
        else None,
        "lr": 0.01,
        "momentum": momentum,
        "nesterov": nesterov,
        "weight_decay": decay,
        "first": first,
        "grad_scale": grad_scale,
        "moved_K2": None,
    }


def adam(normal, P, *, decoupled=False, decay=0.1, grad_scale=0.7, step=3):
    started = float(step > 1)
    return "adam_update", {
        "p_P": normal(0, P),
        "g_P": normal(1, P),
        "m_P": started * normal(2, P),
        "v_P": started * (0.1 + np.square(normal(3, P))),
        "lr": 0.01,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": decay,
        "decoupled": decoupled,
        "correction1": 1 - 0.9**step,
        "correction2": 1 - 0.999**step,
        "grad_scale": grad_scale,
        "moved_K2": None,
    }


def rmsprop(normal, P, *, centered=False, momentum=0.0, decay=0.1, grad_scale=0.7):
    return "rmsprop_update", {
        "p_P": normal(0, P),
        "g_P": normal(1, P),
        "square_P": 0.5 + np.square(normal(2, P)),
        "average_P": 0.3 * np.tanh(normal(3, P)) if centered else None,
        "momentum_P": normal(4, P) if momentum else None,
        "lr": 0.01,
        "alpha": 0.99,
        "eps": 1e-8,
        "weight_decay": decay,
        "momentum": momentum,
        "grad_scale": grad_scale,
        "moved_K2": None,
    }


CASES = {
    "sgd": (sgd, {"momentum": 0.0}),
    "sgd_no_decay": (sgd, {"momentum": 0.0, "decay": 0.0, "grad_scale": 1.0}),
    "sgd_momentum": (sgd, {}),
    "sgd_first": (sgd, {"first": True}),
    "sgd_nesterov": (sgd, {"nesterov": True}),
    "sgd_nesterov_first": (sgd, {"nesterov": True, "first": True}),
    "adam": (adam, {}),
    "adam_no_decay": (adam, {"decay": 0.0, "grad_scale": 1.0}),
    "adamw": (adam, {"decoupled": True}),
    "rmsprop": (rmsprop, {}),
    "rmsprop_momentum": (rmsprop, {"momentum": 0.9}),
    "rmsprop_centered": (rmsprop, {"centered": True}),
    "rmsprop_everything": (rmsprop, {"centered": True, "momentum": 0.9}),
}
every_case = pytest.mark.parametrize(("make", "options"), CASES.values(), ids=CASES.keys())


def outputs(arguments):
    """Every array but the gradient: parameters and state are read and written."""
    return {n for n, v in arguments.items() if isinstance(v, np.ndarray) and n != "g_P"}


def assert_close(both, arguments, tolerance):
    for name in outputs(arguments):
        error = largest_error(both.actual[name], both.expected[name])
        assert error < tolerance, f"{name} is off by {error / EPS32:.1f} roundings"


def test_every_update_has_a_case(normal):
    tried = {make(normal, 1, **options)[0] for make, options in CASES.values()}
    assert tried == {name for name in reference.__all__ if name.endswith("_update")}


@pytest.mark.parametrize("P", SIZES)
@every_case
def test_update(run_both, normal, make, options, P):
    function, arguments = make(normal, P, **options)
    both = run_both("optim", function, arguments, outputs(arguments))
    assert_close(both, arguments, CENTERED if options.get("centered") else UPDATE)


@pytest.mark.parametrize("P", [17, 3 * BLOCK + 5])
@every_case
def test_updates_give_the_same_bits_for_any_number_of_threads(run_kernel, normal, make, options, P):
    function, arguments = make(normal, P, **options)
    names = outputs(arguments)
    first, _ = run_kernel("optim", function, arguments, names, n_threads=1)
    for n_threads in (2, 3):
        again, _ = run_kernel("optim", function, arguments, names, n_threads=n_threads)
        assert all(again[name].tobytes() == first[name].tobytes() for name in names)


@every_case
def test_a_gradient_scaled_beforehand_gives_the_same_bits(run_kernel, normal, make, options):
    function, arguments = make(normal, 4097, **(options | {"grad_scale": 0.123456789}))
    names = outputs(arguments)
    expected, _ = run_kernel("optim", function, arguments, names)
    scaled, _ = run_kernel(
        "optim", "scale", {"x_P": arguments["g_P"], "value": 0.123456789}, {"x_P"}
    )
    arguments |= {"g_P": scaled["x_P"], "grad_scale": 1.0}
    actual, _ = run_kernel("optim", function, arguments, names)
    assert all(actual[name].tobytes() == expected[name].tobytes() for name in names)


@pytest.mark.parametrize("P", [1, 15, 4097, 3 * 16384 + 77])
def test_a_sum_has_the_bits_of_numpys(run_kernel, normal, P):
    x_P, y_P = normal(0, P), normal(1, P)
    actual, _ = run_kernel("optim", "add", {"x_P": x_P, "y_P": y_P}, {"x_P"})
    assert actual["x_P"].tobytes() == (x_P + y_P).tobytes()


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9999])
@pytest.mark.parametrize("P", SIZES)
def test_an_average_is_its_twins(run_both, run_kernel, normal, P, decay):
    arguments = {"average_P": normal(0, P), "p_P": normal(1, P), "decay": decay}
    both = run_both("optim", "average", arguments, {"average_P"})
    assert largest_error(both.actual["average_P"], both.expected["average_P"]) < UPDATE
    zeros = {name: np.zeros(P, np.float32) for name in ("average_P", "p_P")}
    actual, _ = run_kernel("optim", "average", arguments | zeros, {"average_P"})
    assert not actual["average_P"].any()


@every_case
def test_padding_stays_zero(run_kernel, normal, make, options):
    function, arguments = make(normal, 33, **options)
    arrays = {n: np.zeros_like(v) for n, v in arguments.items() if isinstance(v, np.ndarray)}
    after, _ = run_kernel("optim", function, arguments | arrays, outputs(arguments))
    assert not any(after[name].any() for name in arrays)


@every_case
def test_a_nan_in_one_gradient_stays_in_that_element(run_kernel, normal, make, options):
    function, arguments = make(normal, 40, **options)
    arguments["g_P"][13] = np.nan
    after, _ = run_kernel("optim", function, arguments, outputs(arguments))
    for name in outputs(arguments):
        assert np.flatnonzero(np.isnan(after[name])).tolist() == [13], name


#: Updates with a running mean of squares: the share of a gradient is weighed before it is added.
SQUARES = {name: case for name, case in CASES.items() if case[0] in (adam, rmsprop)}


@pytest.mark.parametrize(("make", "options"), SQUARES.values(), ids=SQUARES.keys())
@pytest.mark.parametrize("size", [1e20, 1e-20])
def test_a_gradient_whose_square_is_no_float32_counts_where_its_share_is_one(
    run_both, normal, make, options, size
):
    """(1 - beta2) g^2 of 1e37 is a float32, g^2 of 1e40 is none."""
    function, arguments = make(normal, 4097, **options, **({"step": 1} if make is adam else {}))
    # rates as large as 0.01, so no more than 1e20; a decay would hide what is small
    arguments |= {"g_P": (size * np.tanh(normal(1, 4097))).astype(np.float32), "weight_decay": 0.0}
    both = run_both("optim", function, arguments, outputs(arguments))
    names = [name for name in outputs(arguments) if size > 1 or name in ("p_P", "m_P")]
    for name in names:
        assert np.isfinite(both.actual[name]).all()
        assert largest_error(both.actual[name], both.expected[name]) < CENTERED, name
    if size > 1:
        assert (both.actual["p_P"] != arguments["p_P"]).mean() > 0.99


@pytest.mark.parametrize(("make", "options"), SQUARES.values(), ids=SQUARES.keys())
@pytest.mark.parametrize("size", [1e22, 3e38])
def test_a_gradient_whose_share_is_no_float32_either_makes_its_element_stand_still(
    run_both, normal, make, options, size
):
    function, arguments = make(normal, 40, **options)
    arguments |= {"weight_decay": 0.0, "grad_scale": 1.0}
    if arguments.get("momentum_P") is not None:
        arguments["momentum_P"][...] = 0.0  # which would go on moving it
    arguments["g_P"][[0, 13, 39]] = size, -size, size
    after = run_both("optim", function, arguments, outputs(arguments)).actual
    assert np.flatnonzero(after["p_P"] == arguments["p_P"]).tolist() == [0, 13, 39]
    assert np.isfinite(after["p_P"]).all()
    square = after["v_P" if make is adam else "square_P"]
    assert np.flatnonzero(np.isposinf(square)).tolist() == [0, 13, 39]


def test_first_moments_keep_the_digits_of_one_minus_beta(run_both, normal):
    """``1 - beta2`` taken in float32 would be off by 1e-5, and with it the first square means."""
    function, arguments = adam(normal, 4097, decay=0.0, step=1)
    both = run_both("optim", function, arguments, outputs(arguments))
    for name in ("m_P", "v_P"):
        assert largest_error(both.actual[name], both.expected[name]) < UPDATE


def test_a_decay_below_half_a_unit_in_the_last_place_is_felt_on_average(run_both, normal):
    function, arguments = adam(normal, 50_000, decoupled=True, decay=2e-4)
    arguments |= {"lr": 1e-4, "p_P": 1.5 + 0.1 * normal(0, 50_000)}
    both = run_both("optim", function, arguments, outputs(arguments))
    # lr * decay * p = 3e-8; each p is rounded by up to 6e-8, their mean by 6e-8 / sqrt(3 P)
    assert abs((both.actual["p_P"] - both.expected["p_P"]).mean()) < 3e-9


def test_a_constant_gradient_leaves_centered_rmsprop_finite(run_kernel, normal):
    function, arguments = rmsprop(normal, 1000, centered=True, decay=0.0, grad_scale=1.0)
    arguments["g_P"] = np.linspace(0.1, 3, 1000, dtype=np.float32)
    # the running means of a constant gradient, off by a rounding to the wrong side
    arguments["average_P"] = arguments["g_P"].copy()
    arguments["square_P"] = np.square(arguments["g_P"]) * np.float32(1 - 4 * EPS32)
    after, _ = run_kernel("optim", function, arguments, outputs(arguments))
    assert np.isfinite(after["p_P"]).all()


@pytest.mark.parametrize("P", SIZES)
@every_case
def test_how_far_an_update_moves(run_both, run_kernel, normal, make, options, P):
    function, arguments = make(normal, P, **options)
    names = outputs(arguments)
    alone, _ = run_kernel("optim", function, arguments, names)
    arguments["moved_K2"] = np.full((math.ceil(P / BLOCK), 2), np.nan)
    after, _ = run_kernel("optim", function, arguments, names | {"moved_K2"}, n_threads=1)
    again, _ = run_kernel("optim", function, arguments, names | {"moved_K2"}, n_threads=3)
    assert after["moved_K2"].tobytes() == again["moved_K2"].tobytes()
    assert all(after[name].tobytes() == alone[name].tobytes() for name in names), "other bits"

    before_P, after_P = (x["p_P"].astype(np.float64) for x in (arguments, after))
    exact_K2 = [
        [math.fsum((after_P - before_P)[part] ** 2), math.fsum(before_P[part] ** 2)]
        for part in (slice(i, i + BLOCK) for i in range(0, P, BLOCK))
    ]
    assert largest_error(after["moved_K2"][:, 0], np.array(exact_K2)[:, 0]) < FLOAT64_ROUNDING
    assert largest_error(after["moved_K2"][:, 1], np.array(exact_K2)[:, 1]) < FLOAT64_ROUNDING

    both = run_both("optim", function, arguments, names | {"moved_K2"})
    # a step of 0.01 keeps 1e-5 of itself when it is added to a parameter in float32
    assert largest_error(both.actual["moved_K2"], both.expected["moved_K2"]) < 1e-4


@every_case
def test_an_update_that_is_not_finite_shows_in_how_far_it_moves(run_kernel, normal, make, options):
    function, arguments = make(normal, 2 * BLOCK, **options)
    arguments["g_P"][BLOCK + 3] = np.nan
    arguments["moved_K2"] = np.zeros((2, 2))
    names = outputs(arguments)
    after, _ = run_kernel("optim", function, arguments, names)
    assert np.isnan(after["moved_K2"]).tolist() == [[False, False], [True, False]]


# --------------------------------------------------------------------------- flat operations


@pytest.mark.parametrize("P", SIZES)
def test_fill(run_both, unwritten, P):
    both = run_both("optim", "fill", {"x_P": unwritten(P), "value": 0.1}, {"x_P"})
    assert np.array_equal(both.actual["x_P"], np.full(P, 0.1, np.float32))


@pytest.mark.parametrize("P", SIZES)
def test_scale(run_both, normal, P):
    both = run_both("optim", "scale", {"x_P": normal(0, P), "value": 0.1}, {"x_P"})
    assert largest_error(both.actual["x_P"], both.expected["x_P"]) < FEW_ROUNDINGS


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("P", SIZES)
def test_squared_norm(run_both, run_kernel, normal, P, n_threads):
    arguments = {"x_P": normal(0, P), "partial_K": np.full(math.ceil(P / BLOCK), np.nan)}
    both = run_both("optim", "squared_norm", arguments, {"partial_K"}, n_threads)
    assert largest_error(both.actual["partial_K"], both.expected["partial_K"]) < FLOAT64_ROUNDING
    again, _ = run_kernel("optim", "squared_norm", arguments, {"partial_K"}, n_threads=1)
    assert again["partial_K"].tobytes() == both.actual["partial_K"].tobytes()


@pytest.mark.parametrize("at", [0, 5, 15, 16, 4096])
def test_squared_norm_shows_a_nan_anywhere(run_kernel, normal, at):
    x_P = normal(0, 4097)
    x_P[at] = np.nan
    after, _ = run_kernel(
        "optim", "squared_norm", {"x_P": x_P, "partial_K": np.zeros(1)}, {"partial_K"}
    )
    assert np.isnan(after["partial_K"]).all()
