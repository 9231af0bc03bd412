"""Arrays of more than 2^31 elements: places in them are counted in 64 bits by every kernel.

The last rows of such an array, which begin behind element 2^31, get the bits that they get alone.
"""

from __future__ import annotations

import importlib
import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from vast import after_zeros

from tisslm import ops
from tisslm.errors import ShapeError

pytest.importorskip("tisslm._kernels.threads", reason="kernels are not built")
pytestmark = pytest.mark.skipif(
    os.environ.get("TISSLM_SANITIZE") == "1",
    reason="a sanitizer knows no ends of mapped arrays, and takes minutes for the maps",
)

LIMIT = 2**31
MOST = LIMIT - 4096  # what a kernel counts rows to
BLOCK = 16384  # elements of one partial sum
VOCABULARY, CHANNELS = 300_000, 2048
END = 5  # rows that are looked at
FLAT = 3 * BLOCK + 7  # elements, where there are no rows
KEY = {"p": 0.25, "seed": 2**40 + 3, "update": 5, "site": 7}


def front(width: int) -> int:
    """Rows of so many elements that reach to 2^31, whole blocks of the sums over rows."""
    return -(-LIMIT // width // 64) * 64 + 64


def arrays(*shapes: Any, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@dataclass
class Case:
    """Arguments of an op for the end alone, and what is different with a front before it."""

    before: int  # rows of the front
    arguments: dict[str, Any]
    rows: set[str]  # arrays that have a front of zeros
    out: set[str]
    blocks: set[str] = field(default_factory=set)  # arrays with a row for each BLOCK of others
    whole: dict[str, Any] = field(default_factory=dict)  # arguments with the front

    def with_front(self) -> dict[str, Any]:
        found = {}
        for name, value in self.arguments.items():
            if name in self.rows | self.blocks:
                before = self.before if name in self.rows else self.before // BLOCK
                value = after_zeros(value, before)
            found[name] = self.whole.get(name, value)
        return found


def products() -> dict[str, Case]:
    C, before = 4, front(VOCABULARY)
    x, w, y, dw = arrays((END, C), (VOCABULARY, C), (END, VOCABULARY), (VOCABULARY, C))
    forward = {"x_NC": x, "w_OC": w, "b_O": None, "y_NO": y}
    back = {"dy_NO": y, "w_OC": w, "dx_NC": x}
    weight = {"dy_NO": y, "x_NC": x, "dw_OC": dw, "db_O": dw[:, 0].copy(), "accumulate": False}
    return {
        "linear_forward": Case(before, forward, {"x_NC", "y_NO"}, {"y_NO"}),
        "linear_backward_input": Case(before, back, {"dy_NO", "dx_NC"}, {"dx_NC"}),
        "linear_backward_weight": Case(before, weight, {"dy_NO", "x_NC"}, {"dw_OC", "db_O"}),
    }


def losses() -> dict[str, Case]:
    before = front(VOCABULARY)
    logits, weights, row_losses, totals = arrays((END, VOCABULARY), END, END, END)
    targets = np.arange(END, dtype=np.int32) * 50_000
    common = {"logits_NV": logits, "targets_N": targets, "weights_N": weights}
    no_targets = {"targets_N": np.append(np.full(before, -100, np.int32), targets)}
    tile = {**common, "losses_N": row_losses, "gradient": True}
    rows = {"logits_NV", "weights_N", "losses_N"}
    ranks = {"logits_NV": logits, "targets_N": targets, "ranks_N": targets.copy()}
    sums = {"logits_NV": logits, "top_N": row_losses, "total_N": totals}
    softmax = {
        "logits_NV": logits,
        "top_N": row_losses,
        "total_N": totals,
        "targets_N": targets,
        "coefficient_N": weights,
        "target_coefficient_N": weights,
    }
    out = {"logits_NV", "losses_N"}
    return {
        "cross_entropy_tile": Case(
            before, {**tile, "label_smoothing": 0.1}, rows, out, whole=no_targets
        ),
        "soft_cap_forward": Case(
            before,
            {"z_NV": logits, "slope_NV": logits.copy(), "cap": 2.0},
            {"z_NV", "slope_NV"},
            {"z_NV", "slope_NV"},
        ),
        "soft_cap_backward": Case(
            before,
            {"dz_NV": logits, "slope_NV": logits.copy()},
            {"dz_NV", "slope_NV"},
            {"dz_NV"},
        ),
        "focal_tile": Case(before, {**tile, "gamma": 2.0}, rows, out, whole=no_targets),
        "exp_sum": Case(before, sums, set(sums), {"top_N", "total_N"}),
        "softmax_gradient": Case(before, softmax, set(softmax), {"logits_NV"}),
        "target_rank": Case(before, ranks, {"logits_NV", "ranks_N"}, {"ranks_N"}, whole=no_targets),
    }


def rows_of_channels() -> dict[str, Case]:
    C, before = CHANNELS, front(CHANNELS)
    x, y, z, gamma, mean, rstd = arrays((END, C), (END, C), (END, C), C, END, END)
    beta, half = gamma[::-1].copy(), x.view(np.uint16)[:, :C].copy()
    saved = {"gamma_C": gamma, "mean_N": mean, "rstd_N": rstd}
    n, affine = {"mean_N", "rstd_N"}, {"gamma_C": gamma, "beta_C": beta}
    forward = {"h_NC": x, **affine, "x_NC": y, "y_NC": z, "mean_N": mean, "rstd_N": rstd}
    backward = {
        "dy_NC": x, "x_NC": y, **saved, "dres_NC": None, "dx_NC": z, "dgamma_C": beta,
        "dbeta_C": beta.copy(), "partial_2KC": np.zeros((2, 1, C), np.float32), "accumulate": False,
    }  # fmt: skip
    rms = {"gamma_C": gamma, "rstd_N": rstd}
    rms_forward = {"h_NC": x, "gamma_C": gamma, "x_NC": y, "y_NC": z, "rstd_N": rstd, "eps": 1e-5}
    rms_backward = {
        "dy_NC": x, "x_NC": y, **rms, "dres_NC": None, "dx_NC": z, "dgamma_C": beta,
        "partial_KC": np.zeros((1, C), np.float32), "accumulate": False,
    }  # fmt: skip
    rms_partial = {"partial_KC": np.zeros((before // 64 + 1, C), np.float32)}
    partial = {"partial_2KC": np.zeros((2, before // 64 + 1, C), np.float32)}
    key = {"T": 64, **KEY, "first_row": before // 64}
    shifted = {"first_row": 0}
    return {
        "layer_norm_forward": Case(
            before, {**forward, "eps": 1e-5}, {"h_NC", "x_NC", "y_NC"} | n,
            {"x_NC", "y_NC"} | n,
        ),
        "layer_norm_apply": Case(
            before, {"x_NC": x, **saved, "beta_C": beta, "y_NC": y}, {"x_NC", "y_NC"} | n,
            {"y_NC"},
        ),
        "layer_norm_backward": Case(
            before, backward, {"dy_NC", "x_NC", "dx_NC"} | n,
            {"dx_NC", "dgamma_C", "dbeta_C"}, whole=partial,
        ),
        "rms_norm_forward": Case(
            before, rms_forward, {"h_NC", "x_NC", "y_NC", "rstd_N"}, {"x_NC", "y_NC", "rstd_N"},
        ),
        "rms_norm_apply": Case(
            before, {"x_NC": x, **rms, "y_NC": y}, {"x_NC", "y_NC", "rstd_N"}, {"y_NC"},
        ),
        "rms_norm_backward": Case(
            before, rms_backward, {"dy_NC", "x_NC", "dx_NC", "rstd_N"}, {"dx_NC", "dgamma_C"},
            whole=rms_partial,
        ),
        "dropout_forward": Case(
            before, {"x_NC": x, "y_NC": y, **key}, {"x_NC", "y_NC"}, {"y_NC"},
            whole=shifted,
        ),
        "residual_forward": Case(
            before, {"h_NC": x, "y_NC": y, **key}, {"h_NC", "y_NC"}, {"h_NC"},
            whole=shifted,
        ),
        "activation_forward": Case(
            before, {"x_NF": half, "y_NF": half.copy(), "activation": 0},
            {"x_NF", "y_NF"}, {"y_NF"},
        ),
        "activation_backward": Case(
            before, {"x_NF": x, "dy_NF": y, "dx_NF": z, "y_NF": None, "activation": 0},
            {"x_NF", "dy_NF", "dx_NF"}, {"dx_NF"},
        ),
        "gated_forward": Case(
            before, {"pre_NG": x, "act_NF": x[:, ::2].copy(), "activation": 2},
            {"pre_NG", "act_NF"}, {"act_NF"},
        ),
        "gated_backward": Case(
            before, {"pre_NG": x, "dact_NF": y[:, ::2].copy(), "dpre_NG": z, "act_NF": None,
                     "activation": 2},
            {"pre_NG", "dact_NF", "dpre_NG"}, {"dpre_NG"},
        ),
    }  # fmt: skip


def embeddings() -> dict[str, Case]:
    C = -(-LIMIT // VOCABULARY)
    table, h = arrays((END, C), (END, C))
    ids = np.array([[3], [1], [4], [1], [0]], np.int32)
    far = {"tokens_BT": np.concatenate([np.zeros((VOCABULARY, 1), np.int32), VOCABULARY + ids])}
    common = {"tokens_BT": ids, "start_BT": None}
    forward = {**common, "token_VC": table, "position_TC": None, "h_NC": h}
    backward = {
        **common, "dh_NC": h, "dtoken_VC": table, "dposition_TC": None,
        "order_N": np.zeros(END, np.int32), "first_V": np.zeros(END + 1, np.int32),
        "accumulate_token": False, "accumulate_position": False,
    }  # fmt: skip
    return {
        "embedding_forward": Case(
            VOCABULARY, forward, {"token_VC", "h_NC"}, {"h_NC"}, whole=far
        ),
        "embedding_backward": Case(
            VOCABULARY, backward, {"dh_NC", "dtoken_VC", "order_N", "first_V"},
            {"dtoken_VC"}, whole=far,
        ),
    }  # fmt: skip


def flat() -> dict[str, Case]:
    p, g, a, b, c = (np.abs(x) for x in arrays(FLAT, FLAT, FLAT, FLAT, FLAT))
    moved, sums = np.zeros((4, 2)), np.zeros((4, 5))
    sgd = {
        "p_P": p, "g_P": g, "momentum_P": a, "lr": 0.1, "momentum": 0.9, "nesterov": True,
        "weight_decay": 0.1, "first": False, "grad_scale": 0.5, "moved_K2": moved,
    }  # fmt: skip
    adam = {
        "p_P": p, "g_P": g, "m_P": a, "v_P": b, "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8,
        "weight_decay": 0.1, "decoupled": True, "correction1": 0.1, "correction2": 0.01,
        "grad_scale": 0.5, "moved_K2": moved,
    }  # fmt: skip
    rmsprop = {
        "p_P": p, "g_P": g, "square_P": a, "average_P": b, "momentum_P": c, "lr": 0.1, "alpha": 0.9,
        "eps": 1e-8, "weight_decay": 0.1, "momentum": 0.9, "grad_scale": 0.5, "moved_K2": moved,
    }  # fmt: skip
    x, K = {"x_P"}, {"moved_K2"}
    parts = {"x_P": p, "partial_K": np.zeros(4)}
    mean = {"average_P": a, "p_P": p, "decay": 0.5}
    summary = {"x_P": p, "low": -1.0, "high": 1.0, "partial_K5": sums}
    return {
        "sgd_update": Case(LIMIT, sgd, names(sgd), names(sgd) - {"g_P"} | K, K),
        "adam_update": Case(LIMIT, adam, names(adam), names(adam) - {"g_P"} | K, K),
        "rmsprop_update": Case(LIMIT, rmsprop, names(rmsprop), names(rmsprop) - {"g_P"} | K, K),
        "fill": Case(LIMIT, {"x_P": p, "value": 3.0}, x, x),
        "add": Case(LIMIT, {"x_P": p, "y_P": g}, x | {"y_P"}, x),
        "average": Case(LIMIT, mean, names(mean), {"average_P"}),
        "scale": Case(LIMIT, {"x_P": p, "value": 3.0}, x, x),
        "squared_norm": Case(LIMIT, parts, x, {"partial_K"}, {"partial_K"}),
        "summarize": Case(LIMIT, summary, x, {"partial_K5"}, {"partial_K5"}),
    }


def names(arguments: dict[str, Any]) -> set[str]:
    return {name for name in arguments if name.endswith("_P")}


def attention() -> dict[str, Case]:
    T, H, D, S = 64, 4, 64, 4096
    E, B = 3 * H * D, 2
    before = -(-LIMIT // (T * E)) + 1
    qkv, dqkv, out, dout, lse = arrays(
        (B, T, E), (B, T, E), (B, T, H * D), (B, T, H * D), (B, H, T)
    )
    heads = {"n_head": H, "n_kv_head": H, "scale": 0.125}
    key = {**KEY, "p": 0.0, "first_row": 0, "start_BT": None, "stop_BT": None}
    forward = {"qkv_BTE": qkv, "out_BTC": out, "lse_BHT": lse, **heads, **key}
    backward = {"dout_BTC": dout, "qkv_BTE": qkv, "out_BTC": out, "lse_BHT": lse, "dqkv_BTE": dqkv}
    entropy = {"qkv_BTE": qkv, "lse_BHT": lse, "entropy_BHT": lse.copy(), "start_BT": None}
    entropy["stop_BT"] = None
    new, k, v, one = arrays((B, E), (B, H, S, D), (B, H, S, D), (B, H * D))
    decode = {"qkv_BE": new, "k_BKSD": k, "v_BKSD": v, "out_BC": one}
    places = {"position_B": np.full(B, 5, np.int32), "first_B": np.full(B, 1, np.int32)}
    far = front(H * S * D)
    saved = {"qkv_BTE", "out_BTC", "lse_BHT"}
    return {
        "attention_forward": Case(before, forward, saved, {"out_BTC", "lse_BHT"}),
        "attention_backward": Case(
            before, {**backward, **heads, **key, "dkv_M2TD": None}, set(backward), {"dqkv_BTE"}
        ),
        "attention_entropy": Case(
            before, {**entropy, **heads}, set(entropy) - {"start_BT", "stop_BT"}, {"entropy_BHT"}
        ),
        "attention_decode": Case(
            far, {**decode, **heads, **places}, {*decode, *places}, {"out_BC", "k_BKSD"}
        ),
    }


def head_norms() -> dict[str, Case]:
    T, H, D = 64, 4, 64
    E, B = 3 * H * D, 2
    before = -(-LIMIT // (T * E)) + 1
    x, y, z, rstd, gamma = arrays((B, T, E), (B, T, E), (B, T, E), (B * T, 2 * H), D)
    # a row of the statistics is a token; T of them go with a row of the others
    far = after_zeros(rstd, before * T)
    gammas = {"gamma_q": gamma, "gamma_k": gamma}
    heads = {"n_head": H, "n_kv_head": H}
    forward = {"qkv_BTE": x, **gammas, "rstd_NU": rstd, "out_BTE": y, **heads, "eps": 1e-5}
    backward = {
        "dout_BTE": x, "qkv_BTE": y, **gammas, "rstd_NU": rstd, "dqkv_BTE": z,
        "dgamma_q": gamma.copy(), "dgamma_k": gamma.copy(),
        "partial_KW": np.zeros((2, 2 * D), np.float32), **heads, "accumulate": False,
    }  # fmt: skip
    whole = {
        "rstd_NU": far, "dgamma_q": gamma.copy(), "dgamma_k": gamma.copy(),
        "partial_KW": np.zeros((before + 2, 2 * D), np.float32),
    }  # fmt: skip
    return {
        "head_norm_forward": Case(
            before, forward, {"qkv_BTE", "out_BTE"}, {"out_BTE", "rstd_NU"},
            whole={"rstd_NU": far},
        ),
        "head_norm_backward": Case(
            before, backward, {"dout_BTE", "qkv_BTE", "dqkv_BTE"},
            {"dqkv_BTE", "dgamma_q", "dgamma_k"}, whole=whole,
        ),
    }  # fmt: skip


def rotary() -> dict[str, Case]:
    T, H, D = 64, 4, 64
    E, B = 3 * H * D, 2
    before = -(-LIMIT // (T * E)) + 1
    x, y, cos, sin = arrays((B, T, E), (B, T, E), (T, D // 2), (T, D // 2))
    start = np.zeros((B, T), np.int32)
    rest = {"cos_PR": cos, "sin_PR": sin, "n_head": H, "n_kv_head": H, "position": 0}
    forward = {"qkv_BTE": x, "out_BTE": y, **rest, "start_BT": start}
    backward = {"dout_BTE": x, "dqkv_BTE": y, **rest, "start_BT": None}
    return {
        "rotary_forward": Case(
            before, forward, {"qkv_BTE", "out_BTE", "start_BT"}, {"out_BTE"}
        ),
        "rotary_backward": Case(before, backward, {"dout_BTE", "dqkv_BTE"}, {"dqkv_BTE"}),
    }  # fmt: skip


def pooling() -> dict[str, Case]:
    C, before = CHANNELS, front(CHANNELS)
    hidden, out = arrays((END, C), (1, C))
    texts = {"first_P": np.array([1]), "stop_P": np.array([END - 1])}
    whole = {name: before + place for name, place in texts.items()}
    rest = {"kind": ops.POOLINGS["max"], "argmax_PC": np.zeros((1, C), np.int32)}
    forward = {"hidden_NC": hidden, **texts, "out_PC": out, **rest}
    backward = {"d_PC": out, **texts, "dh_NC": hidden, **rest}
    return {
        "pool_forward": Case(before, forward, {"hidden_NC"}, {"out_PC", "argmax_PC"}, whole=whole),
        "pool_backward": Case(before, backward, {"dh_NC"}, {"dh_NC"}, whole=whole),
    }


TABLE = {"products": products, "losses": losses, "rows": rows_of_channels, "tables": embeddings,
         "flat": flat, "attention": attention, "rotary": rotary, "pooling": pooling,
         "head_norms": head_norms}  # fmt: skip
CASES = [
    *((group, function) for group, make in TABLE.items() for function in make()),
]


@pytest.mark.parametrize(("group", "function"), CASES, ids=[function for _, function in CASES])
def test_the_end_of_a_vast_array_gets_the_bits_that_it_gets_alone(group, function):
    case = TABLE[group]()[function]
    vast = case.with_front()
    assert any(x.size > LIMIT for x in vast.values() if isinstance(x, np.ndarray))
    op = getattr(ops, function)
    op(**vast)
    op(**case.arguments)
    for name in case.out:
        alone = case.arguments[name]
        np.testing.assert_array_equal(vast[name][len(vast[name]) - len(alone) :], alone)


@pytest.mark.parametrize("function", ["matmul", "layer_norm_forward", "embedding_backward"])
def test_more_rows_or_columns_than_kernels_count_are_refused(function):
    one = np.zeros((1, 1), np.float32)
    far = after_zeros(one, MOST)
    wide = far.reshape(1, -1)
    ones, row = np.ones(1, np.float32), far.reshape(-1)
    tokens = far.view(np.int32).reshape(1, -1)
    arguments = {
        "matmul": (far, one, far),
        "layer_norm_forward": (wide, row, None, None, wide, ones, ones.copy(), 1e-5),
        "embedding_backward": (
            tokens, far, one, None, tokens[0], tokens[0], False, False, None
        ),
    }[function]  # fmt: skip
    with pytest.raises(ShapeError) as refused:
        getattr(ops, function)(*arguments)
    assert str(refused.value).endswith(
        f": expected at most {MOST} rows or columns, got {MOST + 1}. Take fewer rows at a time, or "
        "a smaller model"
    )


def test_a_position_beyond_every_cache_asks_for_its_scratch():
    decode = importlib.import_module("tisslm._kernels.attention").attention_decode
    new, cache, one = arrays((1, 6), (1, 1, 1, 2), (1, 2))
    position = np.full(1, LIMIT - 1, np.int32)
    arguments = (new, cache, cache.copy(), one, position, 1, 1, 1.0)
    assert decode(*arguments, 0 * position, n_threads=1) == -LIMIT
    # a score for each key that is seen
    assert decode(*arguments, 0 * position + 7, n_threads=1) == 7 - LIMIT


def test_the_norm_of_more_than_2_31_numbers():
    end = np.array([3.0, 4.0], np.float32)
    assert math.isclose(ops.global_norm(after_zeros(end, LIMIT)), 5.0)
