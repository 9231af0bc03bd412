"""The compiled attention to earlier and later keys: against its twin, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packing import starts_of, starts_of_lengths, stops_of
from tolerances import ATTENTION_BACKWARD, ATTENTION_FORWARD, STORED_EPS, largest_error

from tisslm.ops.reference.storage import store, widen

KEY = {"seed": 2**40 + 3, "update": 5, "site": 7, "first_row": 11}
TYPES = ["float32", "uint16", "float16"]

#: Lengths of the documents of a row: on the edges of tiles of 64, beside them, and far from them.
ROWS = {
    "lone": [1],
    "short": [5],
    "a tile": [64],
    "a tile and one": [65],
    "one": [200],
    "single": [1] * 70,
    "on edges": [64, 64, 64],
    "before edges": [63, 64, 64, 2],
    "after edges": [65, 64, 64],
    "one before an edge": [127, 10],
    "short texts": [20, 18, 23, 20, 19, 21, 7],
    "over three tiles": [10, 170, 30],
    "begins in a tile and ends in it": [130, 5, 8, 100],
}


@pytest.fixture
def run(run_both, normal, dkv_of):
    """``run(start, stop, dtype, p, H, K, D)``: what kernel and twin make, entropy included."""

    def both(start, stop, dtype="float32", p=0.0, H=4, K=2, D=20, qkv=None, n_threads=2):
        B, T = stop.shape
        heads = {"n_head": H, "n_kv_head": K, "scale": D**-0.5}
        seen = {"start_BT": start, "stop_BT": stop}

        def low(x):
            made = np.empty(x.shape, dtype)
            store(made, x)
            return made

        qkv = low(normal(0, B, T, (H + 2 * K) * D)) if qkv is None else qkv
        lse = np.full((B, H, T), np.nan, np.float32)
        first = {"qkv_BTE": qkv, "out_BTC": low(np.full((B, T, H * D), np.nan)), "lse_BHT": lse}
        first |= {**heads, "p": p, **KEY, **seen}
        out = {"out_BTC", "lse_BHT"}
        forward = run_both("attention", "attention_forward", first, out, n_threads)
        left = {name: forward.actual[name].copy() for name in out}
        second = {"dout_BTC": low(normal(1, B, T, H * D)), "qkv_BTE": qkv, **left}
        second |= {"dqkv_BTE": low(np.full(qkv.shape, np.nan)), **heads, "p": p, **KEY, **seen}
        second["dkv_M2TD"] = dkv_of(B, T, H, K, D)
        written = {"dqkv_BTE", "dkv_M2TD"}
        backward = run_both("attention", "attention_backward", second, written, n_threads)
        third = {"qkv_BTE": qkv, "lse_BHT": left["lse_BHT"], "entropy_BHT": lse.copy()}
        third |= {**heads, **seen}
        entropy = run_both("attention", "attention_entropy", third, {"entropy_BHT"}, n_threads)
        found = []
        for side in ("actual", "expected"):
            made = {**getattr(forward, side), **getattr(entropy, side)}
            made |= {"dqkv_BTE": getattr(backward, side)["dqkv_BTE"]}
            found.append({name: made[name] for name in (*out, "entropy_BHT", "dqkv_BTE")})
        return found

    return both


def check(found, expected, dtype):
    eps = STORED_EPS.get(dtype, 0.0)
    for name, bound in (
        ("out_BTC", ATTENTION_FORWARD + 3 * eps),
        ("lse_BHT", ATTENTION_FORWARD if not eps else 1e-5),
        # a sum of as many terms as there are keys, each with the error of its score
        ("entropy_BHT", 4 * ATTENTION_FORWARD if not eps else 2e-5),
        ("dqkv_BTE", ATTENTION_BACKWARD + 5 * eps),
    ):
        error = largest_error(widen(found[name]), widen(expected[name]).astype(np.float64), 1.0)
        assert error < bound, name


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("lengths", ROWS.values(), ids=ROWS)
def test_the_kernel_is_its_twin(run, lengths, dtype, p):
    """Beside a row of other documents of the same length."""
    one = starts_of_lengths(lengths)
    start = np.stack([one, starts_of(len(one), 1, len(one))[0]])
    check(*run(start, stops_of(start), dtype, p), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("H", "K", "D"), [(1, 1, 64), (3, 3, 33), (3, 1, 7), (4, 2, 80)])
def test_rows_that_are_one_document(run, dtype, H, K, D):
    """For each way to share heads, and sizes of heads that vectors divide, or do not."""
    for T in (1, 63, 130):
        stop = np.full((2, T), T, np.int32)
        check(*run(None, stop, dtype, 0.2, H, K, D), dtype)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    T=st.integers(1, 200),
    seed=st.integers(0, 2**16),
    spread=st.sampled_from([1, 3, 20, 70, 200]),
    dtype=st.sampled_from(TYPES),
)
def test_any_starts_and_stops_that_do_not_decrease(run, T, seed, spread, dtype):
    """Such as windows to both sides, whose ends are not those of documents."""
    rng, places = np.random.default_rng(seed), np.arange(T)
    first, last = (rng.integers(0, spread, (2, T)) for _ in range(2))
    start = np.maximum.accumulate(np.maximum(places - first, 0), axis=1).astype(np.int32)
    stop = np.minimum(np.maximum.accumulate(places + 1 + last, axis=1), T).astype(np.int32)
    check(*run(start, stop, dtype, 0.1), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("T", [1, 64, 65, 130])
def test_starts_of_zero_have_the_bits_of_none(run, dtype, T):
    stop = np.full((2, T), T, np.int32)
    (none, _), (zeros, _) = run(None, stop, dtype, 0.3), run(0 * stop, stop, dtype, 0.3)
    for name in none:
        assert none[name].tobytes() == zeros[name].tobytes(), name


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 140), min_size=2, max_size=6),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from(TYPES),
)
def test_documents_do_not_see_each_other(run, normal, lengths, seed, dtype):
    """Other numbers in one document change no bit of the others, and its own output everywhere."""
    start = starts_of_lengths(lengths)[None]
    qkv = np.empty((1, start.shape[1], 160), dtype)
    store(qkv, normal(seed, *qkv.shape))
    changed = seed % len(lengths)
    begin = sum(lengths[:changed])
    own = slice(begin, begin + lengths[changed])
    other = qkv.copy()
    store(other[:, own], 5 * normal(seed + 1, *qkv[:, own].shape))
    (before, _), (after, _) = (run(start, stops_of(start), dtype, qkv=x) for x in (qkv, other))
    for name in ("out_BTC", "dqkv_BTE"):
        differs = (before[name] != after[name]).any(axis=2)[0]
        if name == "out_BTC":
            assert differs[own].all()
        differs[own] = False
        assert not differs.any(), name


def test_the_order_of_a_documents_tokens_does_not_matter(run, normal):
    """Without positions, a document backwards gives its rows backwards, to rounding."""
    start = starts_of_lengths([70, 41])[None]
    order = np.concatenate([np.arange(70)[::-1], 70 + np.arange(41)[::-1]])
    qkv = normal(0, 1, 111, 160)
    straight, _ = run(start, stops_of(start), qkv=qkv)
    turned, _ = run(start, stops_of(start), qkv=qkv[:, order].copy())
    error = largest_error(turned["out_BTC"][:, order], straight["out_BTC"].astype(np.float64))
    assert error < 2 * ATTENTION_FORWARD


def test_equal_scores_have_the_logarithm_of_the_number_of_keys(run):
    lengths = [1, 64, 20, 90]
    start = starts_of_lengths(lengths)[None]
    found, _ = run(start, stops_of(start), qkv=np.zeros((1, sum(lengths), 160), np.float32))
    expected = np.log(np.repeat(lengths, lengths))
    for name in ("entropy_BHT", "lse_BHT"):
        assert largest_error(found[name], expected + np.zeros((1, 4, 1)), 1.0) < ATTENTION_FORWARD
