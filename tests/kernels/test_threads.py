"""Every kernel gives the same bits for any number of threads, and again when repeated."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from packing import starts_of, stops_of

from tisslm import ops
from tisslm.models.window import fill_window
from tisslm.ops import reference
from tisslm.ops.reference.activation import GELU, GELU_TANH, RELU2, SILU
from tisslm.ops.reference.storage import store, widen

THREADS = (1, 2, 3, 5, 8, 1)
KEY = {"seed": 2**40 + 3, "update": 5, "site": 7, "first_row": 11}


def arrays(*shapes, size=1.0):
    """Normal numbers in float32 for each shape, the same in every call."""
    rng = np.random.default_rng(0)
    return [rng.normal(scale=size, size=shape).astype(np.float32) for shape in shapes]


def linear_cases():
    for N, C, O in [(1, 100, 70), (131, 100, 70), (300, 130, 600)]:  # noqa: E741
        x, w, b, y = arrays((N, C), (O, C), O, (N, O))
        yield "linear", "linear_forward", {"x_NC": x, "w_OC": w, "b_O": b, "y_NO": y}, {"y_NO"}
        added = {"x_NC": x, "w_OC": w, "b_O": b, "h_NO": y}
        yield "linear", "linear_residual_forward", added, {"h_NO"}
        arguments = {"x_NC": x, "w_OC": w, "b_O": b, "y_NO": y, "a_NO": y.copy()}
        for code in (GELU, GELU_TANH, SILU, RELU2):
            yield (
                "linear",
                "linear_activation_forward",
                {**arguments, "activation": code},
                {"y_NO", "a_NO"},
            )
        yield (
            "linear",
            "linear_backward_input",
            {"dy_NO": y, "w_OC": w, "dx_NC": x},
            {"dx_NC"},
        )
        for accumulate in (False, True):
            arguments = {"dy_NO": y, "x_NC": x, "dw_OC": w, "db_O": b, "accumulate": accumulate}
            yield "linear", "linear_backward_weight", arguments, {"dw_OC", "db_O"}
            both = {"dy_NO": y, "w_OC": w, "x_NC": x, "dx_NC": x.copy(), "dw_OC": w.copy()}
            both |= {"db_O": b, "accumulate": accumulate}
            yield "linear", "linear_backward", both, {"dx_NC", "dw_OC", "db_O"}
        wide = np.hstack([y, y])
        part = {"x_NC": x, "w_OC": w, "first": O // 2}
        yield "linear", "linear_add_columns", {**part, "y_NE": wide}, {"y_NE"}
        part = {"dy_NE": wide, "first": O // 2}
        of_x = {**part, "w_OC": w, "dx_NC": x}
        yield "linear", "linear_columns_backward_input", of_x, {"dx_NC"}
        of_w = {**part, "x_NC": x, "dw_OC": w, "accumulate": True}
        yield "linear", "linear_columns_backward_weight", of_w, {"dw_OC"}
        added = {"dy_NO": y, "w_OC": w, "dx_NC": x}
        yield "linear", "linear_add_backward_input", added, {"dx_NC"}
        a, b_KN, c = arrays((N, C), (C, O), (N, O))
        yield "linear", "matmul", {"a_MK": a, "b_KN": b_KN, "c_MN": c}, {"c_MN"}

    # less than a MiB is one thread's, whatever their number
    for N, C, O in [(1, 100, 70), (17, 300, 1100)]:  # noqa: E741
        x, w, b, y = arrays((N, C), (O, C), O, (N, O))
        few = {"x_NC": x, "w_OC": w, "b_O": b, "y_NO": y}
        yield "linear", "linear_decode", few, {"y_NO"}


def norm_cases():
    for N, C in [(1, 100), (131, 300), (450, 33)]:
        x, y, dres, gamma, beta, mean, rstd = arrays((N, C), (N, C), (N, C), C, C, N, N)
        partial = np.zeros((2, -(-N // 64), C), np.float32)
        weights = {"x_NC": x, "gamma_C": gamma, "beta_C": beta}
        saved = {"mean_N": mean, "rstd_N": rstd}
        yield (
            "norm",
            "layer_norm_forward",
            {
                "h_NC": x,
                "gamma_C": gamma,
                "beta_C": beta,
                "x_NC": x.copy(),
                "y_NC": y,
                **saved,
                "eps": 1e-5,
            },
            {"x_NC", "y_NC", "mean_N", "rstd_N"},
        )
        yield "norm", "layer_norm_apply", {**weights, **saved, "y_NC": y}, {"y_NC"}
        rms = {"gamma_C": gamma, "rstd_N": rstd}
        written = {"h_NC": x, "x_NC": x.copy(), "y_NC": y, "eps": 1e-5}
        yield "norm", "rms_norm_forward", {**rms, **written}, {"x_NC", "y_NC", "rstd_N"}
        yield "norm", "rms_norm_apply", {**rms, "x_NC": x, "y_NC": y}, {"y_NC"}
        given = {"dy_NC": y, "x_NC": x, **rms, "dres_NC": dres, "dx_NC": y.copy()}
        sums = {"dgamma_C": gamma.copy(), "partial_KC": partial[0]}
        for accumulate in (False, True):
            arguments = {**given, **sums, "accumulate": accumulate}
            yield "norm", "rms_norm_backward", arguments, {"dx_NC", "dgamma_C", "partial_KC"}
        gradients = {"dres_NC": dres, "dx_NC": y.copy(), "dgamma_C": gamma.copy(), "dbeta_C": beta}
        for accumulate in (False, True):
            yield (
                "norm",
                "layer_norm_backward",
                {
                    "dy_NC": y,
                    "x_NC": x,
                    "gamma_C": gamma,
                    **saved,
                    **gradients,
                    "partial_2KC": partial,
                    "accumulate": accumulate,
                },
                {"dx_NC", "dgamma_C", "dbeta_C", "partial_2KC"},
            )


def activation_cases():
    for shape in [(1, 7), (131, 100)]:
        x, dy, dx, y = arrays(shape, shape, shape, shape, size=2.0)
        for code in (GELU, GELU_TANH):
            forward = {"x_NF": x, "y_NF": y, "activation": code}
            yield "activation", "activation_forward", forward, {"y_NF"}
            backward = {"x_NF": x, "dy_NF": dy, "dx_NF": dx, "y_NF": y, "activation": code}
            yield "activation", "activation_backward", backward, {"dx_NF", "y_NF"}
            (wide,) = arrays((shape[0], 2 * shape[1]), size=2.0)
            forward = {"pre_NG": wide, "act_NF": y, "activation": code}
            yield "activation", "gated_forward", forward, {"act_NF"}
            backward = {"pre_NG": wide, "dact_NF": dy, "dpre_NG": wide.copy(), "act_NF": y}
            backward["activation"] = code
            yield "activation", "gated_backward", backward, {"dpre_NG", "act_NF"}
    z, slope = arrays((43, 231), (43, 231), size=3.0)
    forward = {"z_NV": z, "slope_NV": slope, "cap": 2.0}
    yield "activation", "soft_cap_forward", forward, {"z_NV", "slope_NV"}
    yield "activation", "soft_cap_backward", {"dz_NV": z, "slope_NV": slope}, {"dz_NV"}


def embedding_cases():
    B, T, V, C = 3, 43, 17, 100
    tokens = np.random.default_rng(0).integers(0, V, size=(B, T)).astype(np.int32)
    token, position, h = arrays((V, C), (T + 2, C), (B * T, C))
    for accumulate, start in itertools.product((False, True), (None, starts_of(0, B, T))):
        arguments = {"tokens_BT": tokens, "token_VC": token, "position_TC": position, "h_NC": h}
        yield "embedding", "embedding_forward", {**arguments, "start_BT": start}, {"h_NC"}
        yield (
            "embedding",
            "embedding_backward",
            {
                "tokens_BT": tokens,
                "dh_NC": h,
                "dtoken_VC": token,
                "dposition_TC": position,
                "order_N": np.zeros(B * T, np.int32),
                "first_V": np.zeros(max(V, T) + 1, np.int32),
                "accumulate_token": accumulate,
                "accumulate_position": accumulate,
                "start_BT": start,
            },
            {"dtoken_VC", "dposition_TC", "order_N", "first_V"},
        )


def attention_cases():
    for B, H, K, T, D in [
        (1, 1, 1, 130, 20),
        (2, 4, 2, 65, 32),
        (3, 3, 1, 7, 8),
        (5, 30, 10, 9, 8),
    ]:
        qkv, out, dout, lse = arrays(
            (B, T, (H + 2 * K) * D), (B, T, H * D), (B, T, H * D), (B, H, T)
        )
        lse += np.log(np.arange(1, T + 1, dtype=np.float32)) + 3
        documents, window = starts_of(0, B, T), np.empty((B, T), np.int32)
        fill_window(window, documents, 21)
        causal = [(None, None), (documents, None), (window, None)]
        both = [(None, np.full((B, T), T, np.int32)), (documents, stops_of(documents))]
        for p, (start, stop) in itertools.product((0.0, 0.3), causal + both):
            rest = {"n_head": H, "n_kv_head": K, "scale": D**-0.5, "p": p, **KEY}
            rest |= {"start_BT": start, "stop_BT": stop}
            forward = {"qkv_BTE": qkv, "out_BTC": out, "lse_BHT": lse, **rest}
            yield "attention", "attention_forward", forward, {"out_BTC", "lse_BHT"}
            backward = {"dout_BTC": dout, **forward}
            backward = {**dict(list(backward.items())[:4]), "dqkv_BTE": qkv.copy(), **rest}
            shape = ops.dkv_shape(B, T, H, K, D)
            backward["dkv_M2TD"] = None if shape is None else np.zeros(shape, np.float32)
            written = {"dqkv_BTE"} | ({"dkv_M2TD"} if shape else set())
            yield "attention", "attention_backward", backward, written
            entropy = {"qkv_BTE": qkv, "lse_BHT": lse, "entropy_BHT": lse.copy(), **rest}
            entropy = {name: entropy[name] for name in entropy if name not in ("p", *KEY)}
            yield "attention", "attention_entropy", entropy, {"entropy_BHT"}
    # few keys are one thread's, whatever their number
    for B, H, K, T, D in [(2, 4, 4, 65, 32), (5, 30, 10, 9, 8), (3, 4, 2, 300, 32)]:
        row, k, v, out = arrays((B, (H + 2 * K) * D), (B, K, T, D), (B, K, T, D), (B, H * D))
        places = (T - 2 - np.arange(B) % 3).astype(np.int32)
        rest = {"position_B": places, "n_head": H, "n_kv_head": K, "scale": D**-0.5}
        for first in (0, T // 3):
            arguments = {"qkv_BE": row, "k_BKSD": k, "v_BKSD": v, "out_BC": out, **rest}
            arguments["first_B"] = np.full(B, first, np.int32)
            yield "attention", "attention_decode", arguments, {"k_BKSD", "v_BKSD", "out_BC"}


def head_norm_cases():
    shapes = [(1, 1, 1, 1, 8), (2, 65, 4, 2, 72), (3, 43, 3, 1, 10)]
    for (B, T, H, K, D), by_head in itertools.product(shapes, (True, False)):
        widths, norms = ((D, D), H + K) if by_head else ((H * D, K * D), 2)
        qkv, dout, out, rstd = arrays(*[(B, T, (H + 2 * K) * D)] * 3, (B * T, norms))
        gamma = dict(zip(("gamma_q", "gamma_k"), arrays(*widths), strict=True))
        rest = {"n_head": H, "n_kv_head": K}
        out[...] = 0
        forward = {"qkv_BTE": qkv, **gamma, "rstd_NU": rstd, "out_BTE": out, **rest, "eps": 1e-6}
        yield "head_norm", "head_norm_forward", forward, {"rstd_NU", "out_BTE"}
        written = {f"d{name}": 1 + x for name, x in gamma.items()}
        written["partial_KW"] = np.zeros((-(-B * T // 64), sum(widths)), np.float32)
        arguments = {"dout_BTE": dout, "qkv_BTE": qkv, **gamma, "rstd_NU": rstd, "dqkv_BTE": out}
        for accumulate in (False, True):
            yield (
                "head_norm",
                "head_norm_backward",
                {**arguments, **written, **rest, "accumulate": accumulate},
                {"dqkv_BTE", *written},
            )


def rotary_cases():
    for B, T, H, K, D, R in [(1, 1, 1, 1, 8, 2), (2, 65, 4, 2, 32, 16), (3, 43, 3, 1, 10, 3)]:
        qkv, out, cos, sin = arrays(*[(B, T, (H + 2 * K) * D)] * 2, *[(T + 2, R)] * 2)
        out[...] = 0
        for start in (None, starts_of(0, B, T)):
            rest = {"n_head": H, "n_kv_head": K, "position": 2, "start_BT": start}
            tables = {"cos_PR": cos, "sin_PR": sin}
            forward = {"qkv_BTE": qkv, **tables, "out_BTE": out, **rest}
            yield "rotary", "rotary_forward", forward, {"out_BTE"}
            backward = {"dout_BTE": qkv, **tables, "dqkv_BTE": out, **rest}
            yield "rotary", "rotary_backward", backward, {"dqkv_BTE"}


def dropout_cases():
    for B, T, C in [(1, 1, 7), (3, 43, 33)]:
        x, y = arrays((B * T, C), (B * T, C))
        for p in (0.0, 0.3):
            key = {"T": T, "p": p, **KEY}
            yield "dropout", "dropout_forward", {"x_NC": x, "y_NC": y, **key}, {"y_NC"}
            yield "dropout", "dropout_backward", {"dy_NC": x, "dx_NC": y, **key}, {"dx_NC"}
            yield "dropout", "residual_forward", {"h_NC": x, "y_NC": y, **key}, {"h_NC"}


def cross_entropy_cases():
    N, V = 43, 131
    logits, weights, losses = arrays((N, V), N, N)
    targets = np.random.default_rng(0).integers(0, V, size=N).astype(np.int32)
    targets[::5] = -100
    tile = {"logits_NV": logits, "targets_N": targets, "weights_N": weights, "losses_N": losses}
    for gradient in (False, True):
        for function, option in [
            ("cross_entropy_tile", "label_smoothing"),
            ("focal_tile", "gamma"),
        ]:
            arguments = {**tile, option: 0.3, "gradient": gradient}
            yield "cross_entropy", function, arguments, {"logits_NV", "losses_N"}
    saved = {"logits_NV": logits, "top_N": losses, "total_N": 1 + np.abs(losses)}
    yield "cross_entropy", "exp_sum", saved, {"top_N", "total_N"}
    ranks = {"logits_NV": logits, "targets_N": targets, "ranks_N": np.zeros(N, np.int32)}
    yield "cross_entropy", "target_rank", ranks, {"ranks_N"}
    coefficients = {"coefficient_N": weights, "target_coefficient_N": weights.copy()}
    arguments = {**saved, "targets_N": targets, **coefficients}
    yield "cross_entropy", "softmax_gradient", arguments, {"logits_NV"}


def optim_cases():
    for P in (1, 3 * 16384 + 77):
        p, g, m, v = arrays(P, P, P, P)
        v, scale = np.abs(v), {"grad_scale": 0.7}
        first, moved = {"p_P": p, "g_P": g}, {"moved_K2": np.zeros((-(-P // 16384), 2))}
        rates = {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "first": False}
        yield (
            "optim",
            "sgd_update",
            {**first, "momentum_P": m, **rates, **scale, **moved},
            {"p_P", "momentum_P", "moved_K2"},
        )
        rates = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}
        rates |= {"decoupled": True, "correction1": 0.5, "correction2": 0.3}
        adam = {**first, "m_P": m, "v_P": v, **rates, **scale, **moved}
        yield "optim", "adam_update", adam, {"p_P", "m_P", "v_P", "moved_K2"}
        state = {"square_P": v + m * m, "average_P": m, "momentum_P": m.copy()}
        rates = {"lr": 1e-3, "alpha": 0.9, "eps": 1e-8, "weight_decay": 0.1, "momentum": 0.9}
        rmsprop = {**first, **state, **rates, **scale, **moved}
        yield "optim", "rmsprop_update", rmsprop, {"p_P", *state, "moved_K2"}
        yield "optim", "fill", {"x_P": p, "value": 0.3}, {"x_P"}
        yield "optim", "add", {"x_P": p, "y_P": g}, {"x_P"}
        yield "optim", "average", {"average_P": m, "p_P": p, "decay": 0.9}, {"average_P"}
        yield "optim", "scale", {"x_P": p, "value": 0.3}, {"x_P"}
        yield "optim", "add", {"x_P": p, "y_P": g}, {"x_P"}
        partial = np.zeros(-(-P // 16384))
        yield "optim", "squared_norm", {"x_P": p, "partial_K": partial}, {"partial_K"}


def pooling_cases():
    first, stop = np.array([1, 90, 91, 200]), np.array([90, 91, 171, 299])
    for C in (7, 300):
        hidden, out, d = arrays((300, C), (4, C), (4, C))
        for kind in ops.POOLINGS.values():
            largest = kind == ops.POOLINGS["max"]
            places = np.zeros((4, C), np.int32) if largest else None
            texts = {"first_P": first, "stop_P": stop}
            rest = {"kind": kind, "argmax_PC": places}
            forward = {"hidden_NC": hidden, **texts, "out_PC": out, **rest}
            written = {"out_PC", "argmax_PC"} if largest else {"out_PC"}
            yield "pooling", "pool_forward", forward, written
            backward = {"d_PC": d, **texts, "dh_NC": hidden, **rest}
            yield "pooling", "pool_backward", backward, {"dh_NC"}


def summary_cases():
    for P in (1, 3 * 16384 + 77):
        arguments = {"x_P": arrays(P)[0], "low": -0.5, "high": 0.5}
        arguments["partial_K5"] = np.zeros((-(-P // 16384), 5))
        yield "summary", "summarize", arguments, {"partial_K5"}


#: Which arguments are stored in two bytes together, by function; each choice is tried.
STORED = {
    "linear_decode": [("w_OC",)],
    "linear_forward": [("x_NC",), ("x_NC", "y_NO"), ("w_OC",)],
    "linear_residual_forward": [("x_NC",)],
    "linear_activation_forward": [("x_NC", "y_NO", "a_NO")],
    "linear_backward_input": [("dy_NO",), ("dy_NO", "dx_NC")],
    "linear_backward_weight": [("dy_NO", "x_NC")],
    "linear_backward": [("dy_NO", "x_NC"), ("dy_NO", "x_NC", "dx_NC")],
    "linear_add_columns": [("y_NE",), ("x_NC", "y_NE")],
    "linear_columns_backward_input": [("dy_NE",), ("dy_NE", "dx_NC")],
    "linear_columns_backward_weight": [("dy_NE",), ("dy_NE", "x_NC")],
    "linear_add_backward_input": [("dx_NC",)],
    "layer_norm_forward": [("x_NC", "y_NC")],
    "layer_norm_apply": [("x_NC", "y_NC")],
    "layer_norm_backward": [("x_NC",)],
    "rms_norm_forward": [("x_NC", "y_NC")],
    "rms_norm_apply": [("x_NC", "y_NC")],
    "rms_norm_backward": [("x_NC",)],
    "activation_forward": [("x_NF", "y_NF")],
    "activation_backward": [("x_NF", "dy_NF", "dx_NF", "y_NF")],
    "gated_forward": [("pre_NG", "act_NF")],
    "gated_backward": [("pre_NG", "dact_NF", "dpre_NG", "act_NF")],
    "attention_forward": [("qkv_BTE", "out_BTC")],
    "attention_backward": [("dout_BTC", "qkv_BTE", "out_BTC", "dqkv_BTE")],
    "attention_entropy": [("qkv_BTE",)],
    "head_norm_forward": [("qkv_BTE", "out_BTE")],
    "head_norm_backward": [("dout_BTE", "qkv_BTE", "dqkv_BTE")],
    "pool_forward": [("hidden_NC",)],
    "rotary_forward": [("qkv_BTE", "out_BTE")],
    "rotary_backward": [("dout_BTE", "dqkv_BTE")],
    "dropout_backward": [("dx_NC",)],
    "residual_forward": [("y_NC",)],
}


def stored_cases(group, dtype):
    """The cases of a group with each choice of arguments stored in two bytes."""
    for module, function, arguments, out in GROUPS[group]():
        for names in STORED.get(function, []):
            rounded = {}
            for name in names:
                rounded[name] = np.empty(arguments[name].shape, dtype)
                store(rounded[name], arguments[name])
            yield module, function, {**arguments, **rounded}, out


GROUPS = {
    "activation": activation_cases,
    "attention": attention_cases,
    "cross_entropy": cross_entropy_cases,
    "dropout": dropout_cases,
    "embedding": embedding_cases,
    "head_norm": head_norm_cases,
    "linear": linear_cases,
    "norm": norm_cases,
    "optim": optim_cases,
    "pooling": pooling_cases,
    "rotary": rotary_cases,
    "summary": summary_cases,
}


@pytest.mark.parametrize("group", list(GROUPS))
def test_bits_do_not_depend_on_the_number_of_threads(run_kernel, group):
    for case in GROUPS[group]():
        check_bits(run_kernel, *case)


@pytest.mark.parametrize("dtype", ["uint16", "float16"])
@pytest.mark.parametrize(
    "group",
    ["activation", "attention", "dropout", "head_norm", "linear", "norm", "pooling", "rotary"],
)
def test_bits_of_stored_types_do_not_either(run_kernel, group, dtype):
    for case in stored_cases(group, dtype):
        check_bits(run_kernel, *case)


#: Scratch of which each thread may have a part of its own.
BY_THREAD = {"dkv_M2TD"}


def check_bits(run_kernel, module, function, arguments, out):
    """Run a kernel with several numbers of threads and compare what it writes."""
    results = []
    for n_threads in THREADS:
        after, code = run_kernel(module, function, arguments, out, n_threads)
        assert not code
        results.append({name: after[name].tobytes() for name in out - BY_THREAD})
    assert all(np.isfinite(widen(after[name])).all() for name in out), f"{function}: not finite"
    written = [name for name in results[0] if results[0][name] != arguments[name].tobytes()]
    assert written, f"{function} did nothing"
    for n_threads, result in zip(THREADS, results, strict=True):
        assert result == results[0], f"{function}: {n_threads} threads give other bits than 1"


def test_every_function_of_every_kernel_is_tried():
    twins = {path.stem for path in Path(reference.__path__[0]).glob("[!_]*.py")} - {"storage"}
    assert set(GROUPS) == twins
    for group, cases in GROUPS.items():
        tried = {function for _, function, _, _ in cases()}
        assert tried == set(importlib.import_module(f"tisslm.ops.reference.{group}").__all__)


def test_stored_types_are_tried_for_every_function_that_takes_them():
    tried = {function for g in GROUPS for _, function, *_ in stored_cases(g, "uint16")}
    assert tried == set(STORED)
