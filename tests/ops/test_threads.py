"""How many threads, the limit of BLAS, and a fork."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tisslm import blas_threads, ops
from tisslm.errors import ConfigError, DataError, ShapeError
from tisslm.ops import threads


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("TISSLM_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_what_was_asked_for_wins(monkeypatch):
    monkeypatch.setenv("TISSLM_NUM_THREADS", "7")
    assert threads.resolve_threads(3) == threads.ThreadCount(3, "as requested")
    assert threads.resolve_threads() == threads.ThreadCount(7, "TISSLM_NUM_THREADS=7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads.resolve_threads().count == 7
    monkeypatch.delenv("TISSLM_NUM_THREADS")
    assert threads.resolve_threads() == threads.ThreadCount(5, "OMP_NUM_THREADS=5")


def test_the_machine_is_asked_otherwise(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(100, 108)))  # no topology
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: None)
    found = threads.resolve_threads()
    assert found == threads.ThreadCount(8, "8 physical cores in the process's affinity")
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: 3)
    found = threads.resolve_threads()
    assert found == threads.ThreadCount(3, "3 processors of the control group's quota")
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1000, 1100)))
    assert threads.resolve_threads().count == 64


@pytest.mark.parametrize("value", ["0", "65", "two", "-1"])
def test_an_impossible_number_is_refused(monkeypatch, value):
    monkeypatch.setenv("TISSLM_NUM_THREADS", value)
    message = f"TISSLM_NUM_THREADS: expected a number of threads from 1 to 64, got '{value}'"
    with pytest.raises(ConfigError, match=message):
        threads.resolve_threads()


@pytest.mark.parametrize(
    ("text", "count", "reason"),
    [
        ("96", 64, "OMP_NUM_THREADS=96, limited to 64 callers of BLAS"),
        ("64", 64, "OMP_NUM_THREADS=64"),
        ("8,1", 8, "OMP_NUM_THREADS=8,1"),
        (" 4 , 2,1", 4, "OMP_NUM_THREADS= 4 , 2,1"),
    ],
)
def test_what_other_openmp_programs_are_told_is_understood(monkeypatch, text, count, reason):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads.resolve_threads() == threads.ThreadCount(count, reason)
    monkeypatch.setenv("TISSLM_NUM_THREADS", "8,1")
    with pytest.raises(ConfigError, match="TISSLM_NUM_THREADS: expected a number of threads from"):
        threads.resolve_threads()


@pytest.mark.parametrize("text", ["0", "-1", "many", ",2"])
def test_what_openmp_does_not_understand_is_refused(monkeypatch, text):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(ConfigError) as caught:
        threads.resolve_threads()
    assert str(caught.value) == (
        "OMP_NUM_THREADS: expected a number of threads >= 1, or such numbers with commas, "
        f"got {text!r}"
    )


def blas_pools() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_has_one_thread_except_where_it_is_lifted():
    threads.limit_blas()
    assert set(blas_pools()) == {1}
    with blas_threads(2):
        assert set(blas_pools()) == {2}
    assert set(blas_pools()) == {1}


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def test_a_first_model_inside_the_block_leaves_blas_with_one_thread():
    done = run(
        "from tisslm import Transformer, TransformerConfig as C, blas_threads\n"
        "from threadpoolctl import threadpool_info\n"
        "def pools(): return {p['num_threads'] for p in threadpool_info() if "
        "p['user_api'] == 'blas'}\n"
        "with blas_threads(2):\n"
        "    Transformer(C(n_layer=1, n_head=1, n_embd=8, seq_len=4, vocab_size=5))\n"
        "    print(pools())\n"
        "print(pools())",
        OPENBLAS_NUM_THREADS="2",
    )
    assert done.stdout.splitlines() == ["{2}", "{1}"], done.stderr


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins have no threads")
def test_a_forked_child_gets_an_error_and_no_hang():
    done = run(
        "import os, numpy as np\n"
        "from tisslm import ops\n"
        "x = np.ones(100_000, np.float32)\n"
        "ops.set_threads(2); ops.scale(x, 2.0)\n"
        "if os.fork() == 0:\n"
        "    try: ops.scale(x, 2.0)\n"
        "    except Exception as e: print(type(e).__name__, e, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait(); ops.scale(x, 0.5); print(x[0])\n"
    )
    assert (
        "TissLMError scale: this process was forked from one that loaded the kernels" in done.stdout
    )
    assert done.stdout.endswith("1.0\n")


def test_environment_variables_with_wrong_values_are_refused():
    done = run("from tisslm.ops import engine", TISSLM_OPS="fast")
    assert "TISSLM_OPS: expected 'reference' or nothing, got 'fast'" in done.stderr
    done = run("import tisslm._kernels.isa", TISSLM_ISA="sse9")
    known = "baseline, neon, neon_bf16, avx2, avx512, avx512_bf16"
    assert f"TISSLM_ISA: expected one of {known}, got 'sse9'" in done.stderr
    elsewhere = "avx2" if platform.machine() == "aarch64" else "neon"
    done = run("import tisslm._kernels.isa", TISSLM_ISA=elsewhere)
    assert f"TISSLM_ISA={elsewhere}: this processor has only baseline" in done.stderr


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins have no levels")
@pytest.mark.parametrize("level", ["baseline", "neon", "avx2", "avx512"])
def test_a_level_can_be_forced_and_names_the_engine(level):
    from tisslm._kernels import isa

    if level not in isa.available():
        pytest.skip(f"this processor lacks {level}")
    done = run("from tisslm import ops; print(ops.engine()['isa'])", TISSLM_ISA=level)
    assert done.stdout.strip() == level


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins have no levels")
def test_the_baseline_is_named_by_the_library_of_scipy_whichever_is_listed_first():
    code = (
        "import threadpoolctl\n"
        "pools = [{'user_api': 'blas', 'filepath': f'{p}.libs/libscipy_openblas.so', 'version': p}"
        " for p in ('numpy', 'scipy')]\n"
        "from tisslm import ops\n"
        "for order in (pools, pools[::-1]):\n"
        "    threadpoolctl.threadpool_info = lambda: order\n"
        "    print(ops.engine()['blas'])"
    )
    done = run(code, TISSLM_ISA="baseline")
    assert done.stdout.split() == ["scipy", "None"] * 2


def test_twins_run_everything_when_asked():
    done = run(
        "from tisslm import Transformer, TransformerConfig as C; import numpy as np, sys\n"
        "m = Transformer(C(n_layer=1, n_head=1, n_embd=8, seq_len=4, vocab_size=5))\n"
        "print(m.forward(np.zeros((1, 4), int))[0].shape)\n"
        "print([n for n in sys.modules if n.startswith('tisslm._kernels.')])",
        TISSLM_OPS="reference",
    )
    assert done.stdout.splitlines() == ["(1, 4, 5)", "[]"]


def test_a_bad_target_is_an_error_and_not_a_crash():
    logits = np.zeros((2, 3), np.float32)
    losses, weights = np.zeros(2, np.float32), np.ones(2, np.float32)
    targets = np.array([0, 3], np.int32)
    with pytest.raises(DataError, match="row 1 of the tile is neither -100 nor an id"):
        ops.cross_entropy_tile(logits, targets, weights, losses, 0.0, True)


def test_kernels_called_from_several_python_threads_take_turns():
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal((300, 300), dtype=np.float32) for _ in range(2))
    expected = np.empty_like(a)
    ops.matmul(a, b, expected)

    def work(_: int) -> bool:
        found = np.empty_like(a)
        for _ in range(20):
            ops.matmul(a, b, found)
        return np.array_equal(found, expected)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_attention_makes_the_scratch_that_it_needs():
    rng = np.random.default_rng(6)
    T, D = 700, 96
    qkv = rng.standard_normal((1, T, 3 * D), dtype=np.float32)
    dout = rng.standard_normal((1, T, D), dtype=np.float32)
    results = []
    for dtype in (np.float32, np.float64):
        out, lse = np.empty((1, T, D), dtype), np.empty((1, 1, T), dtype)
        dqkv = np.empty(qkv.shape, dtype)
        head = (1, 1, 0.1, 0.0, 0, 0, 0, 0, None, None)
        ops.attention_forward(qkv.astype(dtype), out, lse, *head)
        ops.attention_backward(dout.astype(dtype), qkv.astype(dtype), out, lse, dqkv, *head, None)
        results.append((out, dqkv))
    for found, expected in zip(*results, strict=True):
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "shapes", [((2, 3), (4, 5), (2, 5)), ((2, 3), (3, 5), (2, 4)), ((2, 3), (3,), (2, 3))]
)
def test_a_product_that_does_not_fit_is_refused(shapes):
    with pytest.raises(ShapeError, match=r"matmul: expected C-contiguous a \(M, K\), b .* got a"):
        ops.matmul(*(np.ones(shape, np.float32) for shape in shapes))


def test_the_global_norm_is_that_of_numpy():
    x = np.random.default_rng(1).standard_normal(100_000).astype(np.float32)
    expected = float(np.linalg.norm(x.astype(np.float64)))
    assert ops.global_norm(x) == pytest.approx(expected, rel=1e-12)
    assert ops.global_norm(np.zeros(0, np.float32)) == 0.0
    x[5] = np.nan
    assert np.isnan(ops.global_norm(x))
