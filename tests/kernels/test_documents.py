"""The compiled attention on rows of several documents: against its twin, and documents alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packing import starts_of, starts_of_lengths
from tolerances import ATTENTION_BACKWARD, ATTENTION_FORWARD, STORED_EPS, largest_error

from tisslm.ops.reference import attention as twin
from tisslm.ops.reference.storage import store, widen

H, K, D = 4, 2, 20
KEY = {"seed": 2**40 + 3, "update": 5, "site": 7, "first_row": 11}
OUT = {"out_BTC", "lse_BHT"}

#: Lengths of the documents of a row: on the edges of tiles of 64, beside them, and far from them.
ROWS = {
    "one": [130],
    "single": [1] * 70,
    "on edges": [64, 64, 64],
    "before edges": [63, 64, 64, 2],
    "after edges": [65, 64, 64],
    "in one tile": [3, 1, 40, 20],
    "over three tiles": [10, 170, 30],
    "begins in a tile and ends in it": [130, 5, 8, 100],
}


@pytest.fixture
def run(run_both, normal, dkv_of):
    """``run(start, dtype, p)``: outputs and gradients of the kernel, and of the twin."""

    def both(start, dtype="float32", p=0.0, qkv=None, n_threads=2):
        B, T = start.shape
        rest = {
            "n_head": H,
            "n_kv_head": K,
            "scale": D**-0.5,
            "p": p,
            **KEY,
            "start_BT": start,
            "stop_BT": None,
        }

        def low(x):
            made = np.empty(x.shape, dtype)
            store(made, x)
            return made

        unset = low(np.full((B, T, H * D), np.nan))
        qkv = low(normal(0, B, T, (H + 2 * K) * D)) if qkv is None else qkv
        lse = np.full((B, H, T), np.nan, np.float32)
        first = {"qkv_BTE": qkv, "out_BTC": unset, "lse_BHT": lse, **rest}
        forward = run_both("attention", "attention_forward", first, OUT, n_threads)
        second = {
            "dout_BTC": low(normal(1, B, T, H * D)),
            "qkv_BTE": qkv,
            "out_BTC": forward.actual["out_BTC"].copy(),
            "lse_BHT": forward.actual["lse_BHT"].copy(),
            "dqkv_BTE": low(np.full(qkv.shape, np.nan)),
            **rest,
            "dkv_M2TD": dkv_of(B, T, H, K, D),
        }
        written = {"dqkv_BTE", "dkv_M2TD"}
        backward = run_both("attention", "attention_backward", second, written, n_threads)
        found = [
            {name: ran[name] for name in OUT} | {"dqkv_BTE": back["dqkv_BTE"]}
            for ran, back in (
                (forward.actual, backward.actual),
                (forward.expected, backward.expected),
            )
        ]
        return found[0], found[1]

    return both


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("dtype", ["float32", "uint16", "float16"])
@pytest.mark.parametrize("lengths", ROWS.values(), ids=ROWS)
def test_the_kernel_is_its_twin(run, lengths, dtype, p):
    """Beside a row of other documents of the same length."""
    one = starts_of_lengths(lengths)
    found, expected = run(np.stack([one, starts_of(len(one), 1, len(one))[0]]), dtype, p)
    eps = STORED_EPS.get(dtype, 0.0)
    for name, bound in (
        ("out_BTC", ATTENTION_FORWARD + 3 * eps),
        ("lse_BHT", ATTENTION_FORWARD if not eps else 1e-5),
        ("dqkv_BTE", ATTENTION_BACKWARD + 5 * eps),
    ):
        error = largest_error(widen(found[name]), widen(expected[name]).astype(np.float64), 1.0)
        assert error < bound, name


@pytest.mark.parametrize("dtype", ["float32", "uint16", "float16"])
@pytest.mark.parametrize("T", [1, 64, 65, 130])
def test_starts_of_zero_have_the_bits_of_none(run_kernel, normal, dkv_of, dtype, T):
    qkv = np.empty((2, T, (H + 2 * K) * D), dtype)
    store(qkv, normal(0, *qkv.shape))
    found = []
    for start in (None, np.zeros((2, T), np.int32)):
        rest = {
            "n_head": H,
            "n_kv_head": K,
            "scale": D**-0.5,
            "p": 0.3,
            **KEY,
            "start_BT": start,
            "stop_BT": None,
        }
        out, lse = np.zeros((2, T, H * D), dtype), np.zeros((2, H, T), np.float32)
        arguments = {"qkv_BTE": qkv, "out_BTC": out, "lse_BHT": lse, **rest}
        after, _ = run_kernel("attention", "attention_forward", arguments, OUT)
        arguments = {
            "dout_BTC": qkv[..., : H * D].copy(),
            **{name: after[name].copy() for name in ("qkv_BTE", "out_BTC", "lse_BHT")},
            "dqkv_BTE": np.zeros_like(qkv),
            **rest,
            "dkv_M2TD": dkv_of(2, T, H, K, D),
        }
        written = {"dqkv_BTE", "dkv_M2TD"}
        back, _ = run_kernel("attention", "attention_backward", arguments, written)
        found.append([after["out_BTC"], after["lse_BHT"], back["dqkv_BTE"]])
    for none, zeros in zip(*found, strict=True):
        assert none.tobytes() == zeros.tobytes()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 140), min_size=2, max_size=6),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from(["float32", "uint16", "float16"]),
)
def test_documents_do_not_see_each_other(run, normal, lengths, seed, dtype):
    """Other numbers in one document change no bit of the others, and its own output everywhere."""
    start = starts_of_lengths(lengths)[None]
    T = start.shape[1]
    qkv = np.empty((1, T, (H + 2 * K) * D), dtype)
    store(qkv, normal(seed, *qkv.shape))
    changed = seed % len(lengths)
    begin = sum(lengths[:changed])
    own = slice(begin, begin + lengths[changed])
    other = qkv.copy()
    store(other[:, own], 5 * normal(seed + 1, *qkv[:, own].shape))
    (before, _), (after, _) = run(start, dtype, qkv=qkv), run(start, dtype, qkv=other)
    for name in ("out_BTC", "dqkv_BTE"):
        differs = (before[name] != after[name]).any(axis=2)[0]
        if name == "out_BTC":  # a gradient may be the same: a lone token's probability is 1
            assert differs[own].all()
        differs[own] = False
        assert not differs.any(), name


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lengths=st.lists(st.integers(1, 140), min_size=1, max_size=6), seed=st.integers(0, 2**16))
def test_a_document_gives_what_it_gives_alone(run, normal, lengths, seed):
    start = starts_of_lengths(lengths)[None]
    qkv = normal(seed, 1, start.shape[1], (H + 2 * K) * D)
    dout = normal(1, 1, start.shape[1], H * D)
    together, _ = run(start, qkv=qkv)
    for begin, length in zip(np.unique(start), lengths, strict=True):
        own = slice(begin, begin + length)
        alone = np.full((1, length, H * D), np.nan)
        lse, dqkv = np.full((1, H, length), np.nan), np.full((1, length, qkv.shape[2]), np.nan)
        rest = (H, K, D**-0.5, 0.0, 0, 0, 0, 0, None, None)
        numbers = qkv[:, own].astype(np.float64)
        twin.attention_forward(numbers, alone, lse, *rest)
        dout_own = dout[:, own].astype(np.float64)
        twin.attention_backward(dout_own, numbers, alone, lse, dqkv, *rest, None)
        assert largest_error(together["out_BTC"][:, own], alone, 1.0) < ATTENTION_FORWARD
        assert largest_error(together["dqkv_BTE"][:, own], dqkv, 1.0) < ATTENTION_BACKWARD


def test_nan_stays_in_its_document(run, normal):
    """Whose neighbours begin with tiles: within a tile, 0 times NaN is NaN, as on the diagonal."""
    start = starts_of_lengths([64, 100, 28, 60])[None]
    qkv = normal(0, 1, start.shape[1], (H + 2 * K) * D)
    qkv[0, 70, 0] = qkv[0, 100, H * D] = qkv[0, 90, -1] = np.nan
    found, _ = run(start, qkv=qkv)
    for name in ("out_BTC", "dqkv_BTE"):
        is_nan = np.isnan(found[name]).any(axis=2)[0]
        assert is_nan[70], name
        assert not is_nan[:64].any(), name
        assert not is_nan[192:].any(), name
