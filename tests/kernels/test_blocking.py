"""Products have the same bits for every size of a cache, and stay within their scratch."""

from __future__ import annotations

import numpy as np
import pytest

KIB = 1024
SIZES = [(16, 128), (32, 256), (48, 1024), (256, 3072)]
DTYPES = {"fp32": np.float32, "bf16": np.uint16, "fp16": np.float16}


@pytest.fixture
def blocked(kernel_module):
    """``blocked(first, second)``: block for caches of so many KiB; those of before come back."""
    from tisslm.ops.caches import resolve_caches

    isa = kernel_module("isa")
    yield lambda first, second: isa.block_for(first * KIB, second * KIB)
    caches = resolve_caches()
    isa.block_for(caches.level_1, caches.level_2)


def stored(array, dtype):
    if dtype == np.uint16:
        return (array.view(np.uint32) >> 16).astype(np.uint16)
    return array.astype(dtype)


def products(run_kernel, normal, unwritten, isa, dtype):
    """The three products of a linear map, k over several blocks, and what C is narrow in."""
    n, o, c = 100, 70, 1550
    x, dy = (stored(normal(seed, n, c), dtype) for seed in (0, 1))
    w, narrow = normal(2, o, c), normal(3, c, o)
    out = stored(unwritten(n, o), dtype) if dtype != np.float32 else unwritten(n, o)
    calls = {
        "linear_forward": ({"x_NC": x, "w_OC": w, "b_O": normal(4, o), "y_NO": out}, "y_NO"),
        "linear_residual_forward": (
            {"x_NC": x, "w_OC": w, "b_O": normal(4, o), "h_NO": normal(5, n, o)},
            "h_NO",
        ),
        "linear_add_backward_input": (
            {"dy_NO": dy, "w_OC": narrow, "dx_NC": stored(normal(6, n, o), dtype)},
            "dx_NC",
        ),
        "linear_columns_backward_weight": (
            {
                "dy_NE": stored(normal(7, c, 45), dtype),
                "x_NC": stored(normal(8, c, o), dtype),
                "dw_OC": normal(9, 45, o),
                "first": 0,
                "accumulate": True,
            },
            "dw_OC",
        ),
    }
    for function, (arguments, name) in calls.items():
        after, code = run_kernel("linear", function, arguments, {name})
        assert code == 0
        yield function, after[name].tobytes()


@pytest.mark.parametrize("precision", DTYPES)
def test_bits_do_not_depend_on_the_caches(
    run_kernel, kernel_module, normal, unwritten, blocked, precision
):
    isa, found = kernel_module("isa"), []
    for first, second in SIZES:
        blocked(first, second)
        found.append(dict(products(run_kernel, normal, unwritten, isa, DTYPES[precision])))
    for function, expected in found[0].items():
        assert all(other[function] == expected for other in found[1:]), function


@pytest.mark.parametrize(("stored_as", "channels"), [("float32", 768), ("uint16", 3072)])
def test_scratch_grows_with_the_second_level(kernel_module, blocked, stored_as, channels):
    isa = kernel_module("isa")
    if isa.name().startswith("avx512"):
        pytest.skip("at AVX-512 a panel follows the first level alone")
    blocked(32, 256)
    little = isa.gemm_scratch(channels, stored_as)
    blocked(32, 1024)
    assert 0 < little < isa.gemm_scratch(channels, stored_as)


def wide_products(stored_as):
    """Products with many rows of C, to be held against the same with few of them.

    The weight gradient is so large that its chunks stay while k goes on, and k is more than is
    packed at once; rows of the forward product's operand lie 4 KiB apart.
    """
    generator = np.random.default_rng(10)

    def drawn(*shape):
        return stored(generator.standard_normal(shape, dtype=np.float32), DTYPES[stored_as])

    n, o, c = 400, 70, 2048
    x, w = drawn(n, c), generator.standard_normal((o, c), dtype=np.float32)
    yield "linear_forward", {"x_NC": x, "w_OC": w, "b_O": None}, ("x_NC", 0), "y_NO", (n, o)
    dy, narrow = drawn(n, 450), generator.standard_normal((450, o), dtype=np.float32)
    yield "linear_backward_input", {"dy_NO": dy, "w_OC": narrow}, ("dy_NO", 0), "dx_NC", (n, o)
    dy, x = drawn(1300, 1100), drawn(1300, 480)
    arguments = {"dy_NO": dy, "x_NC": x, "db_O": None, "accumulate": False}
    yield "linear_backward_weight", arguments, ("dy_NO", 1), "dw_OC", (1100, 480)


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("first", [32, 48])
def test_many_rows_have_the_bits_of_few(
    run_kernel, kernel_module, unwritten, blocked, precision, first
):
    if precision == "fp32" and kernel_module("isa").name() == "baseline":
        pytest.skip("BLAS multiplies floats at this level, with bits of its own")
    blocked(first, 512)
    for function, arguments, (cut, axis), out, (rows, columns) in wide_products(precision):
        narrow = precision != "fp32" and out == "y_NO"
        found = []
        for most in (rows, 20):
            part = arguments | {cut: np.ascontiguousarray(arguments[cut].take(range(most), axis))}
            given = unwritten(most, columns)
            part[out] = stored(given, DTYPES[precision]) if narrow else given
            after, code = run_kernel("linear", function, part, {out}, n_threads=1)
            assert code == 0
            found.append(after[out])
        assert np.isfinite(found[1].astype(np.float64)).all()
        assert found[0][:20].tobytes() == found[1].tobytes(), function
