"""The sublayers and the embedding of the built-in models, as problems for the gradient checks.

The head, which needs a loss, is in ``losses``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Buffer, Layer, Norm, PassContext
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.layers.attention import Attention
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.embedding import Embedding
from tisslm.models.layers.gated_mlp import GatedMLP
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.mlp import MLP
from tisslm.models.layers.norm import NORMS
from tisslm.models.layers.precision import Precision
from tisslm.testing.gradients.problem import Case, Problem, draw, draw_values, starts

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
    return PassContext(*shape, train, SEED, UPDATE, FIRST_ROW, start)


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
        self.values = {"stream": self.stream, **{p.name: p.data for p in parameters}}

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
        "mlp": partial(mlp, activation="gelu", bias=True, p=0.2),
        "mlp_tanh": partial(mlp, activation="gelu_tanh", bias=False, p=0.0),
        "mlp_rms": partial(mlp, activation="gelu", bias=False, p=0.0, norm="rms"),
        "gated_mlp": partial(mlp, kind=GatedMLP, activation="silu", bias=False, p=0.2, norm="rms"),
        "gated_mlp_gelu": partial(mlp, kind=GatedMLP, activation="gelu", bias=True, p=0.0),
    }
    return [Case(name, "layer", make) for name, make in made.items()]


def affine(name: str, outputs: int, inputs: int, bias: bool) -> Iterator[ParameterSpec]:
    """Yield the parameters of a linear map, or those of a norm if ``outputs`` is 0."""
    yield ParameterSpec(f"{name}.weight", (outputs, inputs) if outputs else (inputs,))
    if bias:
        yield ParameterSpec(f"{name}.bias", (outputs or inputs,))


def linear_of(parameters: Parameters, name: str) -> Linear:
    """Build a linear map over its parameters."""
    named = {p.name: p for p in parameters}
    return Linear(named[f"{name}.weight"], named.get(f"{name}.bias"))


def norm_of(parameters: Parameters, name: str = "layer") -> Norm:
    """Build the norm of a sublayer over its parameters, by its name in ``NORMS``."""
    return NORMS[name].over(parameters, "norm", 1e-5)


def attention(
    dtype: str, large: bool, *, n_kv_head: int, bias: bool, p: float, documents: bool = False
) -> Problem:
    """Make the attention sublayer, over three tiles of keys."""
    n_head, channels, shape = (4, 80, (2, 140)) if large else (4, 8, (2, 4))
    size = channels // n_head
    specs = [
        *affine("norm", 0, channels, bias),
        *affine("qkv", (n_head + 2 * n_kv_head) * size, channels, bias),
        *affine("out", channels, channels, bias),
    ]
    parameters = Parameters(specs, dtype)
    layer = Attention(
        norm_of(parameters),
        linear_of(parameters, "qkv"),
        linear_of(parameters, "out"),
        n_head,
        n_kv_head,
        Dropout(p, site=1),
        Dropout(p, site=2),
        Precision.of("fp32", dtype),
    )
    return LayerProblem(layer, parameters, channels, shape, documents=documents)


def mlp(
    dtype: str,
    large: bool,
    *,
    activation: str,
    bias: bool,
    p: float,
    norm: str = "layer",
    kind: type[MLP] | type[GatedMLP] = MLP,
) -> Problem:
    """Make an MLP sublayer, over two chunks of rows."""
    channels, hidden, shape = (40, 72, (9, 120)) if large else (6, 7, (2, 3))
    specs = [
        *affine("norm", 0, channels, bias),
        *affine("up", hidden * (2 if kind is GatedMLP else 1), channels, bias),
        *affine("down", channels, hidden, bias),
    ]
    parameters = Parameters(specs, dtype)
    layer = kind(
        norm_of(parameters, norm),
        linear_of(parameters, "up"),
        linear_of(parameters, "down"),
        ops.ACTIVATIONS[activation],
        Dropout(p, site=3),
        Precision.of("fp32", dtype),
    )
    return LayerProblem(layer, parameters, channels, shape)
