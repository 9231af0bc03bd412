"""Runs a compiled float32 kernel beside its NumPy twin in float64, on the same numbers.

Every array of the kernel lies, off its 64-byte boundary, between guard zones: a read outside
brings NaN into the result, a write outside is found afterwards. The threads' scratch is as long
as the kernel says it needs, full of NaN, and guarded likewise. Arrays that are not outputs are
read-only, and outputs hold NaN unless the test prefilled them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]

GUARD = 17  # elements: one more than a vector of 16 floats
THREADS = 2  # of ``ops``, where a test does not set them


@dataclass(frozen=True)
class Both:
    """The same arguments after the kernel and after the twin, and what the two returned."""

    actual: dict[str, Any]
    expected: dict[str, Any]
    actual_code: int | None
    expected_code: int | None


@pytest.fixture(autouse=True)
def _scratch_is_given_back() -> Iterator[None]:
    """Each run binds scratch of its own; whoever comes next finds that of ``ops`` again.

    So it does the number of threads, without which ``ops`` takes scratch of fewer for its own.
    """
    yield
    if "tisslm._kernels.threads" in sys.modules:
        from tisslm import ops

        ops.set_threads(THREADS)


@pytest.fixture(scope="session")
def kernel_module() -> Callable[[str], ModuleType]:
    """``kernel_module("linear")``: the compiled module, or a skip where it is not built."""
    return _kernel_module


@pytest.fixture(scope="session")
def run_kernel() -> Callable[..., tuple[dict[str, Any], int | None]]:
    """``run_kernel(module, function, arguments, out, n_threads=2)``: arguments after it, code."""
    return _run_kernel


@pytest.fixture(scope="session")
def run_both() -> Callable[..., Both]:
    """``run_both(module, function, arguments, out, n_threads=2)``: the kernel and its twin."""
    return _run_both


def _kernel_module(name: str) -> ModuleType:
    return pytest.importorskip(f"tisslm._kernels.{name}", reason=f"kernel {name} is not built")


def _run_both(
    module: str,
    function: str,
    arguments: Mapping[str, Any],
    out: set[str],
    n_threads: int = 2,
) -> Both:
    actual, actual_code = _run_kernel(module, function, arguments, out, n_threads)
    twin = getattr(importlib.import_module(f"tisslm.ops.reference.{module}"), function)
    expected = _place(arguments, _in_float64)
    expected_code = twin(**expected)
    return Both(actual, expected, actual_code, expected_code)


def _run_kernel(
    module: str,
    function: str,
    arguments: Mapping[str, Any],
    out: set[str],
    n_threads: int = 2,
) -> tuple[dict[str, Any], int | None]:
    kernel = getattr(_kernel_module(module), function)
    assert out <= set(arguments)
    buffers: list[Array] = []

    def guarded(array: Array) -> Array:
        view, buffer = _guarded(array)
        buffers.append(buffer)
        return view

    placed = _place(arguments, guarded)
    writable = {id(placed[name]) for name in out}
    for value in placed.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = id(value) in writable
    scratch = _bind_scratch(_scratch_floats(module, arguments), n_threads)
    code = kernel(**placed, n_threads=n_threads)
    if module == "linear" and code:  # nothing is done yet: so many floats are missing
        scratch = _bind_scratch(-code, n_threads)
        code = kernel(**placed, n_threads=n_threads)
        assert not code, f"{function} wants {code} floats of scratch, and has been given them"
    assert np.isnan(scratch[:, -GUARD:]).all(), f"{function} writes beyond its scratch"
    for buffer in buffers:
        for zone in (buffer[:GUARD], buffer[-GUARD:]):
            untouched = np.full_like(zone, _poison(zone.dtype))
            assert zone.tobytes() == untouched.tobytes(), f"{function} writes outside its arrays"
    return placed, code


def _scratch_floats(module: str, arguments: Mapping[str, Any]) -> int:
    if module == "norm":
        return 4096  # more than the rows of the tests have channels
    if module != "attention":
        return 0
    cache = arguments.get("k_BKSD")
    qkv = arguments["qkv_BTE" if cache is None else "qkv_BE"]
    size = qkv.shape[-1] // (arguments["n_head"] + 2 * arguments["n_kv_head"])
    time = qkv.shape[1] if cache is None else cache.shape[2]
    return int(_kernel_module("isa").attention_scratch(time, size, str(qkv.dtype)))


def _bind_scratch(floats: int, n_threads: int) -> Array:
    threads = _kernel_module("threads")
    scratch = np.full((n_threads, floats + GUARD), np.nan, np.float32)
    threads.bind_scratch(scratch.reshape(-1), floats + GUARD)
    return scratch


def _place(arguments: Mapping[str, Any], copy: Callable[[Array], Array]) -> dict[str, Any]:
    """Copy the arrays, each object once: an argument given twice stays the same array."""
    copies = {id(v): copy(v) for v in arguments.values() if isinstance(v, np.ndarray)}
    return {name: copies.get(id(value), value) for name, value in arguments.items()}


def _in_float64(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array.copy()


def _guarded(array: Array) -> tuple[Array, Array]:
    buffer = np.full(array.size + 2 * GUARD, _poison(array.dtype), array.dtype)
    view = buffer[GUARD : GUARD + array.size].reshape(array.shape)
    view[...] = array
    return view, buffer


def _poison(dtype: np.dtype[Any]) -> Any:
    return np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else np.nan


@pytest.fixture(scope="session")
def dkv_of() -> Callable[..., Array | None]:
    """``dkv_of(B, T, H, K, D)``: attention's scratch for heads that share a key head, NaN."""
    return _dkv_of


@pytest.fixture(scope="session")
def normal() -> Callable[..., Array]:
    """``normal(seed, *shape, size=1.0)``: normal numbers in float32."""
    return _normal


@pytest.fixture(scope="session")
def unwritten() -> Callable[..., Array]:
    """``unwritten(*shape)``: float32 NaN, which the kernel must overwrite."""
    return _unwritten


def _normal(seed: int, *shape: int, size: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(scale=size, size=shape).astype(np.float32)


def _dkv_of(B: int, T: int, H: int, K: int, D: int) -> Array | None:
    from tisslm import ops

    shape = ops.dkv_shape(B, T, H, K, D)
    return None if shape is None else _unwritten(*shape)


def _unwritten(*shape: int) -> Array:
    return np.full(shape, np.nan, np.float32)
