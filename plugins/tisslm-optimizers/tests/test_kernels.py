"""Kernels agree with their twins on any number of threads; bytes are the nearest levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tisslm_optimizers.adafactor import adafactor_apply, adafactor_moments, adafactor_sizes
from tisslm_optimizers.adam8bit import adam8bit_update
from tisslm_optimizers.dynamic_map import LEVELS, MIDPOINTS, nearest, pack_signed, unpack_signed
from tisslm_optimizers.lamb import lamb_apply, lamb_moments
from tisslm_optimizers.newton_schulz import (
    muon_apply,
    muon_direction,
    muon_mix,
    muon_transpose,
)
from tisslm_optimizers.schedule_free import schedule_free_point, schedule_free_update

from tisslm import ops
from tisslm.testing import check_kernel

Array = NDArray[Any]

pytestmark = pytest.mark.skipif(ops.REFERENCE_ONLY, reason="there is no kernel to be checked")

#: Elements of one block of the kernels, and sizes around it.
BLOCK = 16384
SIZES = (1, 7, BLOCK - 1, BLOCK, 2 * BLOCK + 33)

#: A few roundings of float32; moves are differences of rounded parameters.
ROUNDING, MOVES = 2e-6, 1e-3

RNG = np.random.default_rng(0)
ADAM = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape, dtype=np.float32)


def sums(size: int) -> Array:
    return np.full((-(-size // BLOCK), 2), np.nan)


def check(operation: Callable[..., None], *cases: dict[str, Any], moves: bool = False) -> None:
    report = check_kernel(operation, *cases, tolerance=MOVES if moves else ROUNDING)
    assert report.n_assertions


@pytest.mark.parametrize("moves", [False, True])
def test_schedule_free(moves: bool) -> None:
    def case(n: int) -> dict[str, Any]:
        arrays = {f"{name}_P": normal(n) for name in "pgxz"} | {"v_P": normal(n) ** 2}
        rest = {"correction2": 0.5, "share": 0.3, "grad_scale": 0.7}
        return arrays | {"lr": 0.01} | ADAM | rest | {"moved_K2": sums(n) if moves else None}

    check(schedule_free_update, *map(case, SIZES), moves=moves)
    point = {"p_P": normal(BLOCK + 1), "x_P": normal(BLOCK + 1), "z_P": normal(BLOCK + 1)}
    check(schedule_free_point, point | {"beta1": 0.9})


@pytest.mark.parametrize("moves", [False, True])
def test_lamb(moves: bool) -> None:
    corrections = {"correction1": 0.5, "correction2": 0.3}

    def moments(n: int) -> dict[str, Any]:
        arrays = {"p_P": normal(n), "g_P": normal(n), "m_P": normal(n), "v_P": normal(n) ** 2}
        return arrays | ADAM | corrections | {"grad_scale": 0.7, "sums_K2": sums(n)}

    def apply(n: int) -> dict[str, Any]:
        arrays = {"p_P": normal(n), "m_P": normal(n), "v_P": normal(n) ** 2 + 0.01}
        given = {"rate": 0.01, "eps": 1e-8, "weight_decay": 0.1} | corrections
        return arrays | given | {"moved_K2": sums(n) if moves else None}

    check(lamb_moments, *map(moments, SIZES), moves=True)
    check(lamb_apply, *map(apply, SIZES), moves=moves)


@pytest.mark.parametrize("moves", [False, True])
def test_muon(moves: bool) -> None:
    def direction(n: int) -> dict[str, Any]:
        arrays = {"g_P": normal(n), "momentum_P": normal(n), "u_P": np.full(n, np.nan, np.float32)}
        return arrays | {"momentum": 0.9, "nesterov": moves, "grad_scale": 0.7}

    def apply(n: int) -> dict[str, Any]:
        given = {"rate": 0.01, "pull": 0.001, "moved_K2": sums(n) if moves else None}
        return {"p_P": normal(n), "o_P": normal(n)} | given

    check(muon_direction, *map(direction, SIZES))
    check(muon_apply, *map(apply, SIZES), moves=moves)
    check(muon_mix, {"x_P": normal(BLOCK + 1), "y_P": normal(BLOCK + 1), "a": 3.4, "b": -4.8})
    for shape in ((1, 5), (17, 33), (64, 16)):
        empty = np.full(shape[::-1], np.nan, np.float32)
        check(muon_transpose, {"x_MN": normal(*shape), "y_NM": empty})


@pytest.mark.parametrize("measures", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (3, 70), (130, 9)])
def test_adafactor(shape: tuple[int, int], measures: bool) -> None:
    rows, columns = shape
    runs = min(rows, 64)
    means = {"row_R": normal(rows) ** 2 + 0.1, "column_C": normal(columns) ** 2 + 0.1}
    g = {"g_RC": normal(*shape)}
    moments = {"part_KC": np.zeros((runs, columns)), "rest": 0.3, "eps1": 1e-30, "grad_scale": 0.7}
    check(adafactor_moments, g | means | moments)
    both, moved = {"p_RC": normal(*shape)} | g | means, np.full((runs, 2), np.nan)
    check(adafactor_sizes, both | {"sums_K2": moved, "scale": 2.0, "grad_scale": 0.7})
    rates = {"scale": 2.0, "rate": 0.01, "pull": 0.001, "grad_scale": 0.7}
    given = {"moved_K2": moved if measures else None, "runs": runs}
    check(adafactor_apply, both | given | rates, moves=measures)


@pytest.mark.parametrize("moves", [False, True])
def test_adam8bit(moves: bool) -> None:
    def case(n: int) -> dict[str, Any]:
        blocks = -(-n // 256)
        arrays = {"p_P": normal(n), "g_P": normal(n)}
        for slot in "mv":
            arrays[f"{slot}_P"] = RNG.integers(0, 256, n).astype(np.uint8)
        for slot in "mv":
            arrays[f"{slot}_scale_B"] = normal(blocks) ** 2 + 0.1
        given = {"lr": 0.01} | ADAM | {"correction1": 0.5, "correction2": 0.3, "grad_scale": 0.7}
        return arrays | given | {"moved_K2": sums(n) if moves else None}

    # a number within a rounding of a midpoint may go to either level, 1 / 255 of the largest
    report = check_kernel(adam8bit_update, *map(case, (1, 255, 256, 40001)), tolerance=4e-3)
    assert report.n_assertions


def test_a_byte_stands_for_the_nearest_level_wherever_a_number_lies() -> None:
    """The kernel packs what it updates; with beta1 = 0 and beta2 = 0 that is the gradient."""
    steps = np.concatenate([LEVELS["signed"], MIDPOINTS["signed"], MIDPOINTS["unsigned"]])
    near = [np.nextafter(steps, np.float32(to)) for to in (-1.0, 2.0)]
    tiny = np.float32(2.0) ** -np.arange(1, 149, dtype=np.float32)
    x = np.concatenate([steps, *near, tiny, RNG.random(5000, dtype=np.float32)])
    x = np.clip(x, 0.0, 1.0).astype(np.float32)
    for first in range(0, x.size, 255):
        part = np.concatenate([x[first : first + 255], np.ones(1, np.float32)])
        part[::2] *= -1
        part[-1] = 1.0  # the largest of the block
        m, v = np.zeros(part.size, np.uint8), np.zeros(part.size, np.uint8)
        m_scale, v_scale = np.zeros(1, np.float32), np.zeros(1, np.float32)
        given = (0.0, 0.0, 0.0, 1e-8, 0.0, 1.0, 1.0, 1.0, None)
        adam8bit_update(np.zeros_like(part), part, m, v, m_scale, v_scale, *given)
        np.testing.assert_array_equal(m, pack_signed(part))
        np.testing.assert_array_equal(v, nearest("unsigned", part * part))


def test_every_byte_is_a_level_of_its_own_that_it_is_packed_to() -> None:
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(pack_signed(unpack_signed(codes)), codes)
    np.testing.assert_array_equal(nearest("unsigned", LEVELS["unsigned"]), codes)
    assert (LEVELS["signed"][-1], LEVELS["unsigned"][-1]) == (1.0, 1.0)
