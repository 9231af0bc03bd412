"""Types of tensors as they are written."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import ops
from tisslm.system.gguf_files import GgufFile, Tensor, gguf_chunks
from tisslm.system.gguf_files.kinds import tensor_kind


def back(path, x, kind):
    tensor = Tensor(x.shape, tensor_kind(kind), lambda: x)
    path.write_bytes(b"".join(gguf_chunks({}, {"x": tensor})))
    return GgufFile(path)["x"]


def test_bfloat16_is_rounded_as_our_kernels_do(tmp_path):
    x = np.random.default_rng(1).standard_normal((3, 700), np.float32)
    x[0, :5] = np.inf, -np.inf, np.float32(1 + 2**-8), 0.0, np.float32(3.4e38)
    rounded = np.empty(x.shape, np.uint16)
    ops.narrow(x, rounded)
    assert np.array_equal(back(tmp_path / "f", x, "BF16"), rounded)
    assert np.array_equal(back(tmp_path / "f", rounded, "BF16"), rounded)
    assert np.array_equal(back(tmp_path / "f", rounded, "F32"), ops.widen(rounded))


def test_nan_stays_nan(tmp_path):
    x = np.array([np.nan, 1], np.float32)
    x.view(np.uint32)[0] = 0xFFFFFFFF
    assert back(tmp_path / "f", x, "BF16")[0] & 0x7FFF > 0x7F80


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_any_floating_type_becomes_the_one_of_the_file(tmp_path, dtype):
    x = np.arange(6, dtype=dtype).reshape(2, 3)
    for kind, expected in (("F32", "float32"), ("F16", "float16")):
        found = back(tmp_path / "f", x, kind)
        assert found.dtype == expected
        assert np.array_equal(found, x)


def test_views_that_are_not_contiguous_are_written_in_order(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(back(tmp_path / "f", x, "F32"), x)
