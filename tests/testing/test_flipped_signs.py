"""A sign flipped by hand is found: in any twin, kernel or layer, one at a time.

Twins are mutated in their source, operator by operator; layers statement by statement; of the
compiled kernels, each output is negated.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tisslm import ops
from tisslm.models.body.body import Body
from tisslm.models.body.final_norm import FinalNorm
from tisslm.models.head import Head
from tisslm.models.layers.activation import Gated, Pointwise
from tisslm.models.layers.attention import Attention
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.embedding import Embedding
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.mlp import MLP
from tisslm.models.layers.norm import LayerNorm, RMSNorm
from tisslm.models.layers.parallel import ParallelBlock
from tisslm.models.layers.query_keys import NormedHeads, Rotated
from tisslm.models.transformer import Transformer
from tisslm.ops import door
from tisslm.ops.reference import (
    activation,
    attention,
    cross_entropy,
    dropout,
    embedding,
    head_norm,
    linear,
    norm,
    optim,
    pooling,
    rotary,
)
from tisslm.registry import load_registry
from tisslm.testing import GradientRow, check_gradients
from tisslm.testing.gradients.heads import capped_cases
from tisslm.testing.gradients.kernels import kernel_cases
from tisslm.testing.gradients.layers import layer_cases
from tisslm.testing.gradients.losses import loss_cases
from tisslm.testing.gradients.models import model_cases
from tisslm.testing.gradients.norms import norm_cases
from tisslm.testing.gradients.pooling import pooling_cases
from tisslm.testing.gradients.problem import Case, difference_row, type_row

CASES = [
    *kernel_cases(),
    *norm_cases(),
    *pooling_cases(),
    *layer_cases(),
    *capped_cases(),
    *loss_cases(load_registry()),
    *model_cases(),
]


def found(row: Callable[[Case], GradientRow], names: str) -> bool:
    """Tell whether a comparison fails for any of the components."""
    rows = [row(case) for case in CASES if case.name in names.split()]
    assert rows
    return not all(row.passed for row in rows)


# --------------------------------------------------------------------- outputs of operations

#: Every operation with a backward: what it writes, and a component that uses it.
OUTPUTS = {
    "linear_backward": (("dx_NC", "dw_OC", "db_O"), "linear_residual"),
    "linear_backward_input": (("dx_NC",), "linear"),
    "linear_backward_weight": (("dw_OC", "db_O"), "linear"),
    "linear_add_backward_input": (("dx_NC",), "mlp_lora"),
    "linear_columns_backward_input": (("dx_NC",), "attention_lora"),
    "linear_columns_backward_weight": (("dw_OC",), "attention_lora"),
    "layer_norm_backward": (("dx_NC", "dgamma_C", "dbeta_C"), "layer_norm"),
    "rms_norm_backward": (("dx_NC", "dgamma_C"), "rms_norm"),
    "activation_backward": (("dx_NF", "y_NF"), "mlp"),
    "gated_backward": (("dpre_NG", "act_NF"), "mlp_swiglu"),
    "embedding_backward": (("dtoken_VC", "dposition_TC"), "embedding"),
    "attention_backward": (("dqkv_BTE",), "attention_grouped"),
    "head_norm_backward": (("dqkv_BTE", "dgamma_q", "dgamma_k"), "head_norm"),
    "rotary_backward": (("dqkv_BTE",), "rotary"),
    "dropout_backward": (("dx_NC",), "dropout"),
    "cross_entropy_tile": (("logits_NV",), "cross_entropy"),
    "focal_tile": (("logits_NV",), "focal"),
    "pool_backward": (("dh_NC",), "pooling_mean"),
    "softmax_gradient": (("logits_NV",), "softmax_gradient"),
    "soft_cap_forward": (("slope_NV",), "soft_cap"),
    "soft_cap_backward": (("dz_NV",), "soft_cap"),
}
WRITTEN = [(op, out) for op, (outs, _) in OUTPUTS.items() for out in outs]


def test_every_operation_with_a_backward_is_in_the_table():
    ends = (
        "_backward",
        "_cap_forward",
        "_backward_input",
        "_backward_weight",
        "_tile",
        "_gradient",
    )
    assert {name for name in dir(ops) if name.endswith(ends)} == set(OUTPUTS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "out"), WRITTEN)
def test_a_negated_output_is_found(monkeypatch, name, out, dtype):
    """In float32 it is the compiled kernel's, in float64 the twin's."""
    op = getattr(ops, name)
    signature = inspect.signature(op)

    def negated(*args, **kwargs):
        arguments = signature.bind(*args, **kwargs).arguments
        op(*args, **kwargs)
        array = arguments[out]
        writes = arguments.get("gradient", True) and array is not None
        if writes and array.dtype == dtype:
            array *= -1

    monkeypatch.setattr(ops, name, negated)
    assert found(type_row if dtype == "float32" else difference_row, OUTPUTS[name][1])


@pytest.mark.parametrize("third", ["q", "k", "v"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_negated_third_of_attention_is_found(monkeypatch, third, dtype):
    op = ops.attention_backward

    def negated(dout, qkv, out, lse, dqkv, n_head, n_kv_head, *rest):
        op(dout, qkv, out, lse, dqkv, n_head, n_kv_head, *rest)
        if dqkv.dtype == dtype:
            size = dqkv.shape[-1] // (n_head + 2 * n_kv_head)
            parts = np.split(dqkv, [n_head * size, (n_head + n_kv_head) * size], axis=-1)
            parts["qkv".index(third)][...] *= -1

    monkeypatch.setattr(ops, "attention_backward", negated)
    assert found(type_row if dtype == "float32" else difference_row, "attention_grouped")


@pytest.mark.parametrize("name", ["sgd_update", "adam_update", "rmsprop_update"])
def test_a_kernel_that_updates_the_wrong_way_is_found(monkeypatch, name):
    op = getattr(ops, name)

    def backwards(p, *rest):
        before = p.copy()
        op(p, *rest)
        if p.dtype == np.float32:
            p[...] = 2 * before - p

    monkeypatch.setattr(ops, name, backwards)
    failed = {row.what for row in check_gradients(name.partition("_")[0]) if not row.passed}
    assert {"a quadratic falls", "float32 vs float64"} <= failed


# --------------------------------------------------------------------- operators of the twins


class Flip(ast.NodeTransformer):
    """Turns the n-th plus or minus of a tree around."""

    def __init__(self, n: int) -> None:
        self.left = n

    def visit(self, node):
        node = self.generic_visit(node)
        signs = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.USub: ast.UAdd}
        if isinstance(node, ast.BinOp | ast.AugAssign | ast.UnaryOp) and type(node.op) in signs:
            if self.left == 0:
                node.op = signs[type(node.op)]()
            self.left -= 1
        return node


def with_flip(tree: ast.AST, n: int) -> ast.AST | None:
    """Return a copy with the n-th sign flipped, None if there are fewer."""
    flip = Flip(n)
    flipped = ast.fix_missing_locations(flip.visit(copy.deepcopy(tree)))
    return flipped if flip.left < 0 else None


def function_of(module, name: str) -> ast.FunctionDef:
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(module, name))))
    (function,) = tree.body
    function.decorator_list = []
    return function


def signs_of(module, name: str, branch: bool) -> Iterator[tuple[int, ast.FunctionDef]]:
    """Yield the function with each of its signs flipped; only in ``if gradient:`` if asked."""
    function = function_of(module, name)
    n = 0
    while True:
        flipped = copy.deepcopy(function)
        if branch:
            (place,) = [
                i
                for i, s in enumerate(flipped.body)
                if isinstance(s, ast.If) and ast.unparse(s.test) == "gradient"
            ]
            part = with_flip(flipped.body[place], n)
            if part is None:
                return
            flipped.body[place] = part
        else:
            flipped = with_flip(function, n)
            if flipped is None:
                return
        yield n, flipped
        n += 1


#: The backward of each twin, and what it calls: module, function, the operation, a component.
TWINS = [
    (linear, "linear_residual_forward", "linear_residual_forward", "linear_residual"),
    (linear, "linear_backward_weight", "linear_backward_weight", "linear"),
    (norm, "layer_norm_backward", "layer_norm_backward", "layer_norm"),
    (norm, "rms_norm_backward", "rms_norm_backward", "rms_norm"),
    (norm, "_add_blocks", "layer_norm_backward", "layer_norm"),
    (activation, "activation_backward", "activation_backward", "gelu"),
    (activation, "_gate", "activation_backward", "gelu gelu_tanh silu relu2"),
    (activation, "gated_backward", "gated_backward", "swiglu"),
    (activation, "soft_cap_forward", "soft_cap_forward", "soft_cap"),
    (embedding, "embedding_backward", "embedding_backward", "embedding embedding_documents"),
    (attention, "attention_backward", "attention_backward", "attention_grouped"),
    (head_norm, "head_norm_backward", "head_norm_backward", "head_norm"),
    (head_norm, "_parts", "head_norm_backward", "head_norm head_norm_whole"),
    (rotary, "rotary_backward", "rotary_backward", "rotary"),
    (rotary, "_turned", "rotary_backward", "rotary rotary_documents"),
    (pooling, "pool_backward", "pool_backward", "pooling_mean pooling_last pooling_max"),
    (dropout, "_scaled_mask", "dropout_backward", "dropout"),
    (cross_entropy, "cross_entropy_tile", "cross_entropy_tile", "label_smoothing"),
    (cross_entropy, "focal_tile", "focal_tile", "focal"),
    (cross_entropy, "softmax_gradient", "softmax_gradient", "softmax_gradient"),
]


def mutants() -> Iterator[object]:
    for module, name, op, component in TWINS:
        branch = name.endswith("_tile")
        for n, function in signs_of(module, name, branch):
            yield pytest.param(module, op, component, function, id=f"{name}-{n}")


@pytest.mark.parametrize(("module", "op", "component", "function"), list(mutants()))
def test_a_flipped_operator_of_a_twin_is_found(monkeypatch, module, op, component, function):
    namespace = dict(vars(module))
    whole = ast.parse(inspect.getsource(module))
    whole.body = [
        function if isinstance(s, ast.FunctionDef) and s.name == function.name else s
        for s in whole.body
    ]
    exec(compile(whole, module.__file__, "exec"), namespace)
    original, twin = getattr(ops, op), namespace[op]

    def mutated(*args, **kwargs):
        if door._has_kernel(args):
            return original(*args, **kwargs)
        return twin(*args, **kwargs)

    monkeypatch.setattr(ops, op, mutated)
    assert found(difference_row, component)


@pytest.mark.parametrize("name", ["sgd_update", "adam_update", "rmsprop_update"])
def test_a_flipped_operator_of_an_updates_twin_is_found(monkeypatch, name):
    """By the kernel, which is right, or by the direction."""
    original, verdicts = getattr(ops, name), []
    components = {"sgd_update": ["sgd"], "adam_update": ["adam", "adamw"]}.get(name, ["rmsprop"])
    for _, function in signs_of(optim, name, branch=False):
        namespace = dict(vars(optim))
        exec(compile(ast.Module([function], []), optim.__file__, "exec"), namespace)
        twin = optim.QUIET(namespace[name])

        def mutated(*args, twin=twin):
            return original(*args) if door._has_kernel(args) else twin(*args)

        monkeypatch.setattr(ops, name, mutated)
        rows = [row for component in components for row in check_gradients(component)]
        verdicts.append(not all(row.passed for row in rows))
    assert len(verdicts) > 2
    assert all(verdicts)


# --------------------------------------------------------------------- statements of the layers

#: Methods that wire a backward, and a component that runs them.
WIRING = [
    (Attention, "backward", "attention_grouped"),
    (Attention, "pull", "attention_grouped attention_rotary"),
    (Attention, "_chunk_backward", "attention_grouped"),
    (Rotated, "backward", "attention_rotary"),
    (NormedHeads, "backward", "attention_qk_norm"),
    (MLP, "backward", "mlp"),
    (MLP, "pull", "mlp"),
    (MLP, "_chunk_backward", "mlp"),
    (Pointwise, "backward", "mlp"),
    (Gated, "backward", "mlp_swiglu"),
    (ParallelBlock, "backward", "parallel_block"),
    (Embedding, "backward", "embedding"),
    (Linear, "backward", "attention attention_lora"),
    (Linear, "backward_input", "mlp mlp_lora"),
    (Linear, "backward_weight", "mlp mlp_lora"),
    (LayerNorm, "recompute", "attention"),
    (LayerNorm, "backward", "attention"),
    (RMSNorm, "recompute", "mlp_rms"),
    (RMSNorm, "backward", "mlp_rms"),
    (Dropout, "backward", "mlp"),
    (Head, "loss", "cross_entropy"),
    (FinalNorm, "backward", "cross_entropy"),
    (Head, "loss", "head_capped"),
    (Head, "_project", "head_scaled_capped"),
    (Head, "_chunk_backward", "head_scaled_capped"),
    (Head, "backward_logits", "head_scaled_capped_logits"),
    (Transformer, "backward", "transformer_logits"),
    (Body, "backward", "transformer"),
]


#: Calls that compute nothing: they tell observers where a pass is.
ANNOUNCING = {"enter", "leave"}


class Drop(ast.NodeTransformer):
    """Leaves the n-th call that is a statement and computes something out."""

    def __init__(self, n: int) -> None:
        self.left = n

    def visit_Expr(self, node):
        if not isinstance(node.value, ast.Call):
            return node
        if isinstance(node.value.func, ast.Name) and node.value.func.id in ANNOUNCING:
            return node
        self.left -= 1
        return ast.Pass() if self.left == -1 else node


def without_a_call() -> Iterator[object]:
    for cls, name, component in WIRING:
        function = function_of(cls, name)
        n = 0
        while True:
            drop = Drop(n)
            dropped = ast.fix_missing_locations(drop.visit(copy.deepcopy(function)))
            if drop.left >= 0:
                break
            yield pytest.param(
                cls, name, component, dropped, id=f"{cls.__name__}.{name}-{component}-{n}"
            )
            n += 1


@pytest.mark.parametrize(("cls", "name", "component", "function"), list(without_a_call()))
def test_a_call_left_out_of_a_backward_is_found(monkeypatch, cls, name, component, function):
    namespace = dict(vars(inspect.getmodule(cls)))
    exec(compile(ast.Module([function], []), name, "exec"), namespace)
    monkeypatch.setattr(cls, name, namespace[name])
    assert found(difference_row, component)


@pytest.mark.parametrize(
    ("cls", "component"),
    [
        (Attention, "attention"),
        (MLP, "mlp"),
        (MLP, "mlp_swiglu"),
        (ParallelBlock, "parallel_block"),
    ],
)
def test_a_layer_that_negates_the_stream_is_found(monkeypatch, cls, component):
    backward = cls.backward

    def negated(self, dh_NC, *rest):
        backward(self, dh_NC, *rest)
        dh_NC *= -1

    monkeypatch.setattr(cls, "backward", negated)
    assert found(difference_row, component)


@pytest.mark.parametrize(
    "name",
    [
        "embedding.token.weight",
        "embedding.position.weight",
        "blocks.0.attention.qkv.bias",
        "blocks.1.mlp.up.weight",
    ],
)
def test_a_parameter_of_the_model_with_a_negated_gradient_is_found(monkeypatch, name):
    backward = Body.backward

    def negated(self, buffers, ctx, observers=()):
        backward(self, buffers, ctx, observers)
        self.parameters[name].grad[...] *= -1

    monkeypatch.setattr(Body, "backward", negated)
    (case,) = [case for case in CASES if case.name == "transformer"]
    row = difference_row(case)
    assert not row.passed
    assert row.worst.startswith(f"d {name}")
