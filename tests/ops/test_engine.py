"""What the engine says of itself: what the bits of a result depend on."""

from __future__ import annotations

import pytest

from tisslm import ops


def pool(path: str, version: str) -> dict[str, str]:
    found = {"user_api": "blas", "filepath": path, "version": version}
    return found | {"architecture": "Zen"}


#: The libraries of two wheels have nearly the same name.
NUMPYS = pool("/site-packages/numpy.libs/libscipy_openblas64_-32a4.so", "0.3.31")
SCIPYS = pool("/site-packages/scipy.libs/libscipy_openblas-6cdc.so", "0.3.30")
SYSTEMS = pool("/usr/lib/libopenblas.so.0", "0.3.21")
OPENMP = {"user_api": "openmp", "filepath": "/usr/lib/libgomp.so.1", "version": None}


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins have no levels")
@pytest.mark.parametrize(
    ("pools", "named"),
    [
        ([NUMPYS, SCIPYS, OPENMP], "0.3.30 Zen"),
        ([SCIPYS, NUMPYS], "0.3.30 Zen"),
        ([OPENMP, SYSTEMS], "0.3.21 Zen"),
        ([NUMPYS, SYSTEMS], "unknown"),
        ([], "unknown"),
    ],
    ids=["NumPy's first", "SciPy's first", "one for both", "not clear whose", "none"],
)
def test_the_blas_that_kernels_call_is_named_in_whatever_order(monkeypatch, pools, named):
    isa = pytest.importorskip("tisslm._kernels.isa", reason="kernels are not built")
    monkeypatch.setattr(isa, "name", lambda: "baseline")
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: pools)
    assert ops.engine() == {"ops": "compiled", "isa": "baseline", "blas": named}
