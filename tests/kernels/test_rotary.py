"""The compiled rotary positions against their twin, in every type of storage."""

from __future__ import annotations

import numpy as np
import pytest
from packing import starts_of, starts_of_lengths
from tolerances import FEW_ROUNDINGS, STORED_EPS, largest_error

from tisslm.ops.reference.storage import store, widen

TYPES = ["float32", "uint16", "float16"]
#: B, T, H, K, D, R: heads that are turned whole or in part, below, at and above a vector, and odd.
SHAPES = [
    (1, 1, 1, 1, 2, 1),
    (2, 5, 2, 1, 7, 3),
    (1, 9, 4, 4, 32, 16),
    (3, 4, 6, 2, 33, 16),
    (2, 7, 3, 3, 40, 17),
    (1, 13, 8, 2, 64, 32),
    (2, 3, 4, 1, 80, 10),
    (1, 2, 2, 2, 130, 65),
]
FUNCTIONS = {
    "rotary_forward": ("qkv_BTE", "out_BTE"),
    "rotary_backward": ("dout_BTE", "dqkv_BTE"),
}


def arguments_of(normal, function, shape, dtype, *, position=3, start=None, in_place=False):
    B, T, H, K, D, R = shape
    given, result = FUNCTIONS[function]
    x = np.empty((B, T, (H + 2 * K) * D), dtype)
    store(x, normal(0, *x.shape))
    angles = normal(1, position + T, R, size=3.0)
    unset = np.full(x.shape, 0x7FC1 if dtype == "uint16" else np.nan, dtype)
    return {
        given: x,
        "cos_PR": np.cos(angles),
        "sin_PR": np.sin(angles),
        result: x if in_place else unset,
        "n_head": H,
        "n_kv_head": K,
        "position": position,
        "start_BT": start,
    }


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_is_its_twin(run_both, normal, function, dtype, documents, shape):
    start = starts_of(0, *shape[:2]) if documents else None
    arguments = arguments_of(normal, function, shape, dtype, start=start)
    result = FUNCTIONS[function][1]
    both = run_both("rotary", function, arguments, {result})
    found, expected = widen(both.actual[result]), widen(both.expected[result])
    # two products and a sum; then one rounding to what is stored
    error = largest_error(found, expected.astype(np.float64))
    assert error < FEW_ROUNDINGS + STORED_EPS.get(dtype, 0.0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_in_place_has_the_bits_of_apart(run_kernel, normal, function, dtype, shape):
    result = FUNCTIONS[function][1]
    apart, _ = run_kernel(
        "rotary", function, arguments_of(normal, function, shape, dtype), {result}
    )
    arguments = arguments_of(normal, function, shape, dtype, in_place=True)
    within, _ = run_kernel("rotary", function, arguments, {result})
    assert within[result].tobytes() == apart[result].tobytes()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_not_turned_has_its_bits(run_kernel, normal, dtype, shape):
    B, T, H, K, D, R = shape
    arguments = arguments_of(normal, "rotary_forward", shape, dtype)
    after, _ = run_kernel("rotary", "rotary_forward", arguments, {"out_BTE"})
    before, found = (x.reshape(B, T, H + 2 * K, D) for x in (after["qkv_BTE"], after["out_BTE"]))
    assert found[:, :, H + K :].tobytes() == before[:, :, H + K :].tobytes()
    assert found[..., 2 * R :].tobytes() == before[..., 2 * R :].tobytes()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_a_document_has_the_bits_that_it_has_alone(run_kernel, normal, function, dtype):
    """Wherever in a row it begins: its positions count from there."""
    lengths, (H, K, D, R) = [1, 14, 5, 20], (4, 2, 20, 9)
    given, result = FUNCTIONS[function]
    start = starts_of_lengths(lengths)[None]
    shape = (1, sum(lengths), H, K, D, R)
    arguments = arguments_of(normal, function, shape, dtype, position=0, start=start)
    together, _ = run_kernel("rotary", function, arguments, {result})
    for begin, length in zip(np.unique(start), lengths, strict=True):
        own = slice(begin, begin + length)
        alone = {
            **arguments,
            given: arguments[given][:, own].copy(),
            result: arguments[result][:, own].copy(),
            "start_BT": None,
        }
        after, _ = run_kernel("rotary", function, alone, {result})
        assert after[result].tobytes() == together[result][:, own].tobytes()


@pytest.mark.parametrize("dtype", TYPES)
def test_a_token_that_is_decoded_has_the_bits_of_its_place_in_a_row(run_kernel, normal, dtype):
    shape = (2, 9, 4, 2, 20, 10)
    arguments = arguments_of(normal, "rotary_forward", shape, dtype, position=0)
    whole, _ = run_kernel("rotary", "rotary_forward", arguments, {"out_BTE"})
    one = {
        **arguments,
        "qkv_BTE": arguments["qkv_BTE"][:, 7:8].copy(),
        "out_BTE": arguments["out_BTE"][:, 7:8].copy(),
        "position": 7,
    }
    after, _ = run_kernel("rotary", "rotary_forward", one, {"out_BTE"})
    assert after["out_BTE"].tobytes() == whole["out_BTE"][:, 7:8].tobytes()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("documents", [False, True])
def test_a_chunk_of_rows_has_the_bits_of_the_whole(run_kernel, normal, function, dtype, documents):
    """Chunks that begin and end within rows, as one row whose documents begin at b T + start."""
    B, T, *_ = shape = (3, 11, 4, 2, 20, 9)
    given, result = FUNCTIONS[function]
    start = starts_of(3, B, T) if documents else np.zeros((B, T), np.int32)
    arguments = arguments_of(normal, function, shape, dtype, position=0, start=start)
    whole, _ = run_kernel("rotary", function, arguments, {result})
    flat = {name: arguments[name].reshape(1, B * T, -1) for name in (given, result)}
    begin = (np.arange(B, dtype=np.int32)[:, None] * T + start).reshape(1, -1)
    for first in range(0, B * T, 7):
        rows = slice(first, first + 7)
        chunk = {name: x[:, rows].copy() for name, x in flat.items()}
        chunk |= {"position": first, "start_BT": begin[:, rows].copy()}
        after, _ = run_kernel("rotary", function, {**arguments, **chunk}, {result})
        expected = whole[result].reshape(1, B * T, -1)[:, rows]
        assert after[result].tobytes() == expected.tobytes()
