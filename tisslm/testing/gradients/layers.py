"""The sublayers and the embedding of the built-in models, as problems for the gradient checks.

The head, which needs a loss, is in ``losses``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.config.model import GATED
from tisslm.contracts import Buffer, Layer, Norm, PassContext
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.layers.activation import Gated, Pointwise
from tisslm.models.layers.attention import Attention
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.embedding import Embedding
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.lora import Lora, LoraRoom
from tisslm.models.layers.mlp import MLP
from tisslm.models.layers.norm import NORMS
from tisslm.models.layers.parallel import ParallelBlock
from tisslm.models.layers.precision import Precision
from tisslm.models.layers.query_keys import AsProjected, NormedHeads, QueryKeys, Rotated
from tisslm.models.rotary import Rotary, RotaryTable
from tisslm.models.window import fill_window
from tisslm.testing.gradients.problem import Case, Problem, draw, draw_values, starts, stops

__all__ = ["EmbeddingProblem", "LayerProblem", "buffers", "fresh_gradients", "layer_cases"]

Array = NDArray[Any]

SEED, UPDATE, FIRST_ROW = 5, 3, 1


def buffers(plan: Mapping[str, Buffer], kind: str) -> dict[str, Array]:
    """Make the planned buffers of a kind, full of NaN, which reveals unwritten elements."""
    chosen = {name: b for name, b in plan.items() if b.kind == kind}
    arrays = {name: np.zeros(b.shape, b.dtype) for name, b in chosen.items()}
    for array in arrays.values():
        if array.dtype.kind == "f":
            array[...] = np.nan
    return arrays


def fresh_gradients(parameters: Parameters) -> None:
    """Fill gradients with NaN and mark them as zero: the first contribution must overwrite them."""
    parameters.grad_arena[...] = np.nan
    parameters.zero_grad()


def gradients_of(parameters: Parameters) -> dict[str, Array]:
    """Return the gradient of each parameter by its name."""
    return {p.name: p.grad for p in parameters if p.trainable}


def context(shape: tuple[int, int], train: bool, documents: bool = False) -> PassContext:
    """Return the context of a pass in the middle of a run."""
    start = starts(*shape) if documents else None
    end = stops(start, *shape)  # for layers that are not causal
    return PassContext(*shape, train, SEED, UPDATE, FIRST_ROW, start, stop_BT=end)


@final
class LayerProblem(Problem):
    """A sublayer as a function of the stream and of its parameters.

    Parameters
    ----------
    layer : Layer
    parameters : Parameters
        The parameters of the layer, whose values are drawn anew.
    channels : int
        C of the stream.
    shape : tuple of int
        B and T.
    train : bool
        Whether dropout is applied.
    documents : bool
        Whether rows hold several documents.
    """

    def __init__(
        self,
        layer: Layer,
        parameters: Parameters,
        channels: int,
        shape: tuple[int, int],
        *,
        train: bool = True,
        documents: bool = False,
    ) -> None:
        draw_values(parameters)
        self.layer = layer
        self.parameters = parameters
        self.ctx = context(shape, train, documents)
        dtype = parameters.data.dtype
        self.stream = draw("stream", (shape[0] * shape[1], channels)).astype(dtype)
        trained = {p.name: p.data for p in parameters if p.trainable}
        self.values = {"stream": self.stream, **trained}

    def see(self, window: int) -> None:
        """Let a token see itself and the tokens before it in a window of this many."""
        window_BT = np.empty((self.ctx.batch, self.ctx.time), np.int32)
        fill_window(window_BT, self.ctx.start_BT, window)
        self.ctx = replace(self.ctx, window_BT=window_BT)

    def pass_forward(self) -> tuple[Array, dict[str, Array]]:
        """Return the stream after the layer, and what it saved."""
        plan = self.layer.plan((self.ctx.batch, self.ctx.time))
        h_NC, saved = self.stream.copy(), buffers(plan, "saved")
        self.layer.forward(h_NC, saved, buffers(plan, "scratch"), self.ctx)
        return h_NC, saved

    def pass_backward(self) -> Array:
        """Add the parameters' gradients and return the stream's."""
        h_NC, saved = self.pass_forward()
        plan = self.layer.plan((self.ctx.batch, self.ctx.time))
        dh_NC = self.weights("stream", h_NC)
        self.layer.backward(dh_NC, saved, buffers(plan, "scratch"), self.ctx)
        return dh_NC

    def outputs(self) -> Mapping[str, Array]:
        """Run forward."""
        return {"stream": self.pass_forward()[0]}

    def gradients(self) -> Mapping[str, Array]:
        """Run forward and backward."""
        fresh_gradients(self.parameters)
        return {"stream": self.pass_backward(), **gradients_of(self.parameters)}


@final
class EmbeddingProblem(Problem):
    """The embedding of tokens and positions, with dropout on the sum."""

    def __init__(self, dtype: str, large: bool, *, documents: bool = False) -> None:
        shape, vocab, channels = ((3, 50), 33, 72) if large else ((2, 5), 4, 3)
        specs = [
            ParameterSpec("token", (vocab, channels)),
            ParameterSpec("position", (shape[1] + 2, channels)),
        ]
        self.parameters = Parameters(specs, dtype)
        draw_values(self.parameters)
        self.values = {p.name: p.data for p in self.parameters}
        token, position = self.parameters["token"], self.parameters["position"]
        self.embedding = Embedding(token, position, Dropout(0.2, site=4))
        self.tokens = np.random.default_rng(0).integers(0, vocab, shape, dtype=np.int32)
        self.ctx = context(shape, True, documents)

    def outputs(self) -> Mapping[str, Array]:
        """Run forward."""
        shape = (self.tokens.size, self.values["token"].shape[1])
        h_NC = np.full(shape, np.nan, dtype=self.values["token"].dtype)
        self.embedding.forward(self.tokens, h_NC, self.ctx)
        return {"h": h_NC}

    def gradients(self) -> Mapping[str, Array]:
        """Run backward."""
        fresh_gradients(self.parameters)
        dh_NC = self.weights("h", self.outputs()["h"])
        scratch = buffers(self.embedding.plan(self.tokens.shape), "scratch")
        self.embedding.backward(self.tokens, dh_NC, scratch, self.ctx)
        return gradients_of(self.parameters)


def layer_cases() -> list[Case]:
    """Return a case for each sublayer and each of its variants, with dropout."""
    made: dict[str, Callable[[str, bool], Problem]] = {
        "embedding": EmbeddingProblem,
        "embedding_documents": partial(EmbeddingProblem, documents=True),
        "attention": partial(attention, n_kv_head=4, bias=True, p=0.0),
        "attention_grouped": partial(attention, n_kv_head=2, bias=False, p=0.2),
        "attention_documents": partial(attention, n_kv_head=2, bias=True, p=0.2, documents=True),
        "attention_window": partial(attention, n_kv_head=2, p=0.2, documents=True, window=3),
        "attention_both": partial(attention, n_kv_head=2, p=0.2, documents=True, causal=False),
        "attention_rotary": partial(attention, n_kv_head=2, p=0.0, documents=True, rotated=0.5),
        "attention_qk_norm": partial(attention, n_kv_head=2, p=0.0, rotated=1.0, qk_norm="head"),
        "attention_qk_norm_all": partial(attention, n_kv_head=2, p=0.0, qk_norm="all"),
        "attention_lora": partial(attention, n_kv_head=2, p=0.2, rotated=1.0, lora=True),
        "parallel_block": partial(attention, n_kv_head=2, bias=True, p=0.2, parallel=True),
        "mlp": partial(mlp, activation="gelu", bias=True, p=0.2),
        "mlp_tanh": partial(mlp, activation="gelu_tanh", bias=False, p=0.0),
        "mlp_silu": partial(mlp, activation="silu", bias=True, p=0.0),
        "mlp_relu2": partial(mlp, activation="relu2", bias=True, p=0.0),
        "mlp_swiglu": partial(mlp, activation="swiglu", bias=False, p=0.2),
        "mlp_geglu": partial(mlp, activation="geglu", bias=True, p=0.0),
        "mlp_rms": partial(mlp, activation="gelu", bias=False, p=0.0, norm="rms"),
        "mlp_lora": partial(mlp, activation="gelu", bias=True, p=0.0, lora=True),
    }
    return [Case(name, "layer", make) for name, make in made.items()]


def affine(name: str, outputs: int, inputs: int, bias: bool) -> Iterator[ParameterSpec]:
    """Yield the parameters of a linear map, or those of a norm if ``outputs`` is 0."""
    yield ParameterSpec(f"{name}.weight", (outputs, inputs) if outputs else (inputs,))
    if bias:
        yield ParameterSpec(f"{name}.bias", (outputs or inputs,))


def with_lora(specs: Iterable[ParameterSpec], **columns: range) -> Iterator[ParameterSpec]:
    """Freeze parameters, and yield those of an adapter of some columns of each named map."""
    for spec in specs:
        yield replace(spec, trainable=False)
        for name, outputs in columns.items():
            if spec.name == f"{name}.weight":
                yield ParameterSpec(f"{name}.a", (2, spec.shape[1]))
                yield ParameterSpec(f"{name}.b", (len(outputs), 2))


def linear_of(
    parameters: Parameters, name: str, columns: Mapping[str, range] | None = None, p: float = 0.0
) -> Linear:
    """Build a linear map over its parameters, with the adapter of some of its columns."""
    named, adapters = {p.name: p for p in parameters}, []
    if columns and name in columns:
        pair = named[f"{name}.a"], named[f"{name}.b"]
        room = LoraRoom(2, 512, parameters.dtype.name)
        adapters.append(Lora(*pair, columns[name].start, 0.7, Dropout(p, site=9), room))
    return Linear(named[f"{name}.weight"], named.get(f"{name}.bias"), adapters)


def norm_of(parameters: Parameters, name: str = "norm", kind: str = "layer") -> Norm:
    """Build the norm of a sublayer over its parameters, of a kind of ``NORMS``."""
    return NORMS[kind].over(parameters, name, 1e-5)


def attention(
    dtype: str,
    large: bool,
    *,
    n_kv_head: int,
    p: float,
    bias: bool = False,
    documents: bool = False,
    window: int = 0,
    causal: bool = True,
    rotated: float = 0.0,
    qk_norm: str = "none",
    parallel: bool = False,
    lora: bool = False,
) -> Problem:
    """Make the attention sublayer, over three tiles of keys; heads are wider than C / H."""
    n_head, channels, size, shape = (4, 80, 24, (2, 140)) if large else (4, 8, 4, (2, 5))
    wide, inner = (n_head + 2 * n_kv_head) * size, n_head * size
    specs = [
        *affine("norm", 0, channels, bias),
        *affine("qkv", wide, channels, bias),
        *affine("out", channels, inner, bias),
    ]
    if qk_norm != "none":
        whole = qk_norm == "all"
        specs += affine("q_norm", 0, inner if whole else size, False)
        specs += affine("k_norm", 0, n_kv_head * size if whole else size, False)
    if parallel:
        specs += [*_mlp_specs(channels, 72 if large else 7, bias, prefix="mlp_")]
    adapted = {"qkv": range(inner, wide - 1), "out": range(channels)} if lora else {}
    if lora:
        specs = [*with_lora(specs, **adapted)]
    parameters, heads = Parameters(specs, dtype), (n_head, n_kv_head)
    precision = Precision.of("fp32", dtype)
    query_keys: QueryKeys = AsProjected()
    if rotated:
        query_keys = Rotated(*heads, RotaryTable(Rotary(size, rotated, 10.0), shape[1]))
    if qk_norm != "none":
        q_weight, k_weight = (parameters[f"{part}_norm.weight"] for part in "qk")
        query_keys = NormedHeads(*heads, q_weight, k_weight, 1e-5, query_keys, precision)
    seen = window * (20 if large else 1)
    layer: Layer
    layer = part = Attention(
        norm_of(parameters),
        linear_of(parameters, "qkv", adapted, p),
        linear_of(parameters, "out", adapted, p),
        *heads,
        query_keys,
        seen,
        causal,
        Dropout(p, site=1),
        Dropout(p, site=2),
        precision,
    )
    if parallel:
        layer = ParallelBlock(part, _mlp_of(parameters, "gelu", p, "mlp_"))
    problem = LayerProblem(layer, parameters, channels, shape, documents=documents)
    if window:
        problem.see(seen)
    return problem


def mlp(
    dtype: str,
    large: bool,
    *,
    activation: str,
    bias: bool,
    p: float,
    norm: str = "layer",
    lora: bool = False,
) -> Problem:
    """Make the MLP sublayer, over two chunks of rows."""
    channels, hidden, shape = (40, 72, (9, 120)) if large else (6, 7, (2, 3))
    gated = activation in GATED
    specs = _mlp_specs(channels, hidden, bias, gated=gated)
    adapted = {"up": range(hidden), "down": range(channels)} if lora else {}
    parameters = Parameters(with_lora(specs, **adapted) if lora else specs, dtype)
    layer = _mlp_of(parameters, activation, p, norm=norm, adapted=adapted)
    return LayerProblem(layer, parameters, channels, shape)


def _mlp_specs(
    channels: int, hidden: int, bias: bool, *, gated: bool = False, prefix: str = ""
) -> Iterator[ParameterSpec]:
    yield from affine(f"{prefix}norm", 0, channels, bias)
    yield from affine(f"{prefix}up", 2 * hidden if gated else hidden, channels, bias)
    yield from affine(f"{prefix}down", channels, hidden, bias)


def _mlp_of(
    parameters: Parameters,
    activation: str,
    p: float,
    prefix: str = "",
    norm: str = "layer",
    adapted: Mapping[str, range] | None = None,
) -> MLP:
    code = ops.ACTIVATIONS[GATED.get(activation, activation)]
    return MLP(
        norm_of(parameters, f"{prefix}norm", norm),
        linear_of(parameters, f"{prefix}up", adapted, p),
        linear_of(parameters, f"{prefix}down", adapted, p),
        Gated(code) if activation in GATED else Pointwise(code),
        Dropout(p, site=3),
        Precision.of("fp32", parameters.dtype.name),
    )
