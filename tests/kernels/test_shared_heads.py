"""Attention's backward where query heads share a key head: who works, and the order of its sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from packing import starts_of

from tisslm import ops
from tisslm.errors import ShapeError
from tisslm.ops.reference.storage import store

pytest.importorskip("tisslm._kernels.attention", reason="kernels are not built")

TYPES = ["float32", "uint16", "float16"]
KEY = {"seed": 2**40 + 3, "update": 5, "site": 7, "first_row": 0}
WRITTEN = {"dqkv_BTE", "dkv_M2TD"}


def call(normal, B, H, K, T, D, dtype="float32", p=0.0, documents=False, heads=None):
    """The arguments of a backward pass after forward; the scratch has room for ``heads``."""

    def low(seed, *shape):
        made = np.empty(shape, dtype)
        store(made, normal(seed, *shape))
        return made

    qkv, out = low(0, B, T, (H + 2 * K) * D), low(0, B, T, H * D)
    lse = np.empty((B, H, T), np.float32)
    rest = {"n_head": H, "n_kv_head": K, "scale": D**-0.5, "p": p, **KEY}
    rest["start_BT"], rest["stop_BT"] = starts_of(1, B, T) if documents else None, None
    ops.attention_forward(qkv, out, lse, *rest.values())
    first = {"dout_BTC": low(1, B, T, H * D), "qkv_BTE": qkv, "out_BTC": out, "lse_BHT": lse}
    shape = ops.dkv_shape(B, T, H, K, D)
    if heads is not None:
        shape = (heads, 2, T, D)
    dkv = None if shape is None else np.full(shape, np.nan, np.float32)
    return {**first, "dqkv_BTE": np.zeros_like(qkv), **rest, "dkv_M2TD": dkv}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("H", "K"), [(8, 2), (8, 1)])
def test_all_threads_work_on_one_row_with_few_key_heads(kernel_module, normal, dtype, H, K):
    """A thread that has computed a head has written its scratch. On few processors, one may come
    when all heads are taken, so a head takes many milliseconds, and there are several tries."""
    T, D = 2400, 64
    arguments = call(normal, 1, H, K, T, D, dtype)
    floats = kernel_module("isa").attention_scratch(T, D, dtype)
    backward = kernel_module("attention").attention_backward
    most = 0
    for _ in range(60):
        scratch = np.full((4, floats + 16), np.nan, np.float32)
        kernel_module("threads").bind_scratch(scratch.reshape(-1), floats + 16)
        assert backward(**arguments, n_threads=4) == 0
        most = max(most, int((~np.isnan(scratch)).any(axis=1).sum()))
        if most == 4:
            break
    assert most == 4


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(("B", "H", "K"), [(1, 4, 2), (5, 6, 2), (3, 5, 1)])
def test_neither_threads_nor_room_change_a_bit(run_kernel, normal, dtype, documents, p, B, H, K):
    """With room for the heads of one key head, of some, of all; few threads take whole groups."""
    group, found = H // K, set()
    for heads in (group, 2 * group, 3 * group + 1, B * H):
        arguments = call(normal, B, H, K, 70, 20, dtype, p, documents, heads=heads)
        for n_threads in (1, 2, 3, 5, 8):
            after, code = run_kernel(
                "attention", "attention_backward", arguments, WRITTEN, n_threads
            )
            assert code == 0
            found.add(after["dqkv_BTE"].tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_has_the_bits_that_it_has_alone(run_kernel, normal, dtype):
    """Whatever its batch: a micro-batch of other size rounds nothing else."""
    arguments = call(normal, 40, 4, 2, 33, 8, dtype)  # of 40 rows, two turns of 20
    assert arguments["dkv_M2TD"].shape[0] == 80
    together, _ = run_kernel("attention", "attention_backward", arguments, WRITTEN)
    rows = {"dout_BTC", "qkv_BTE", "out_BTC", "lse_BHT", "dqkv_BTE"}
    for row in (0, 19, 20, 39):
        one = {n: x[row : row + 1] if n in rows else x for n, x in arguments.items()}
        alone, _ = run_kernel("attention", "attention_backward", one, WRITTEN)
        assert alone["dqkv_BTE"].tobytes() == together["dqkv_BTE"][row].tobytes()


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("T", [5, 64, 130])
def test_heads_are_added_in_their_order(run_kernel, normal, T, p):
    """To the bit: dk and dv of each head are those that it has with a copy of the key head."""
    B, H, K, D = 2, 6, 2, 20
    shared = call(normal, B, H, K, T, D, p=p)
    q, k, v = np.split(shared["qkv_BTE"], [H * D, (H + K) * D], axis=2)
    k, v = (np.repeat(x.reshape(B, T, K, D), H // K, axis=2).reshape(B, T, -1) for x in (k, v))
    own = {**shared, "qkv_BTE": np.concatenate([q, k, v], axis=2), "n_kv_head": H}
    own |= {"dqkv_BTE": np.zeros((B, T, 3 * H * D), np.float32), "dkv_M2TD": None}
    found, _ = run_kernel("attention", "attention_backward", shared, WRITTEN)
    each, _ = run_kernel("attention", "attention_backward", own, {"dqkv_BTE"})
    dq, dkv = each["dqkv_BTE"][..., : H * D], each["dqkv_BTE"][..., H * D :]
    dkv = dkv.reshape(B, T, 2, K, H // K, D)
    total = dkv[..., 0, :].copy()
    for head in range(1, H // K):
        total += dkv[..., head, :]
    assert found["dqkv_BTE"][..., : H * D].tobytes() == dq.tobytes()
    assert found["dqkv_BTE"][..., H * D :].tobytes() == total.tobytes()


@pytest.mark.parametrize("heads", [0, 3])
def test_too_little_room_is_refused(normal, heads):
    arguments = call(normal, 2, 8, 2, 9, 8, heads=heads)
    with pytest.raises(ShapeError) as refused:
        ops.attention_backward(*arguments.values())
    assert str(refused.value) == (
        "attention_backward: dkv_M2TD: expected room for the query heads that share a key head, "
        "got less. Make it of the shape that ops.dkv_shape returns"
    )


def test_the_room_is_bounded_and_gives_every_thread_a_head():
    for B, K, group in [(1, 1, 2), (1, 2, 7), (8, 3, 3), (1, 8, 4), (100, 8, 4), (7, 1, 71)]:
        shape = ops.dkv_shape(B, 100, K * group, K, 16)
        assert shape is not None
        heads = shape[0]
        assert shape[1:] == (2, 100, 16)
        assert heads % group == 0
        assert min(64, B * K * group) <= heads <= B * K * group
        assert heads < 128 + group
        turns = math.ceil(B * K * group / heads)
        assert heads - B * K * group / turns < group  # no turn is left with a few
    assert ops.dkv_shape(8, 100, 6, 6, 16) is None
