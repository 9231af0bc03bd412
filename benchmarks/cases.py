"""The calls that the benchmark of kernels makes: every operation of a step, at a size's shapes.

This one table knows the operations' arguments; whoever changes a signature changes it here. Those
of norms are taken from what their classes call.

What does not live here: verification, time, how much work a call is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
from numpy.typing import NDArray
from sizes import Size

from tisslm import ops
from tisslm.contracts import chunk_rows
from tisslm.memory import Parameters
from tisslm.models.layers.chunks import CHUNK
from tisslm.models.layers.norm import NORMS
from tisslm.models.layers.precision import Precision
from tisslm.ops.cost import named
from tisslm.ops.door import OPERATIONS

__all__ = ["Case", "cases", "in_double", "reduced"]

Array = NDArray[Any]

GELU, SILU = ops.ACTIVATIONS["gelu"], ops.ACTIVATIONS["silu"]
EPS = 1e-5
SEED = 1337
FLAT = 2**25  # parameters in a flat pass, at most: 128 MiB each, beyond any cache
KEY = (0.1, SEED, 1, 1, 0)  # of dropout: probability, seed, update, site, first row
NO_DROPOUT = (0.0, *KEY[1:])
ADAMW = (1e-4, 0.9, 0.95, 1e-8, 0.1, True, 0.1, 0.05, 0.5, None)  # lr to moved_K2


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes
    ----------
    operation : str
        Name in ``tisslm.ops``.
    shape : str
        For the reader.
    arguments : tuple
        As the operation takes them.
    out : tuple of int
        Positions of the arrays that it writes and that are compared.
    """

    operation: str
    shape: str
    arguments: tuple[Any, ...]
    out: tuple[int, ...]


def stored(array: Array, precision: str) -> Array:
    """Return float32 numbers as a precision stores them; fp32's are returned as they are."""
    out = np.empty(array.shape, Precision.of(precision, "float32").stored)
    if out.dtype == array.dtype:
        return array
    ops.narrow(array.reshape(-1, array.shape[-1]), out.reshape(-1, array.shape[-1]))
    return out


def in_double(array: Array) -> Array:
    """Return the numbers of an array of any storage type in float64; others are copied."""
    wide = array.dtype.kind == "f" or array.dtype == np.uint16
    return ops.widen(array).astype(np.float64) if wide else array.copy()


@dataclass
class Draw:
    """Arrays of normal numbers; long ones repeat a block, for drawing takes longer than timing.

    ``low`` ones, stored activations and operands of products, are of the run's precision.
    """

    precision: str = "fp32"
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))

    def normal(self, *shape: int, size: float = 1.0) -> Array:
        total = math.prod(shape)
        block = self.rng.standard_normal(min(total, 2**16 + 1), dtype=np.float32)
        return np.resize(block * np.float32(size), shape)

    def low(self, *shape: int) -> Array:
        return stored(self.normal(*shape), self.precision)

    def ids(self, below: int, *shape: int) -> Array:
        return self.rng.integers(0, below, shape, dtype=np.int32)

    @staticmethod
    def empty(*shape: int) -> Array:
        return np.full(shape, np.nan, np.float32)

    def low_empty(self, *shape: int) -> Array:
        return stored(self.empty(*shape), self.precision)


def reduced(size: Size) -> Size:
    """Return a small size of the same width, whose float64 twins are quick."""
    return replace(
        size,
        n_layer=1,
        vocab_size=min(size.vocab_size, 997),
        batch=min(size.batch, 2),
        time=min(size.time, 80),
    )


def cases(size: Size, precision: str = "fp32") -> Iterator[Case]:
    """Make every case of a size, in the order of a step."""
    draw = Draw(precision)
    yield from embedding(draw, size)
    yield from norms(draw, size)
    yield from products(draw, size)
    yield from rotary(draw, size)
    yield from attention(draw, size)
    yield from elementwise(draw, size)
    yield from loss(draw, size)
    yield from optimizer(draw, size)


def products(draw: Draw, size: Size) -> Iterator[Case]:
    """Every linear map of a block, and the output projection of one chunk, in its three forms."""
    width, rows, gated = size.n_embd, size.tokens, size.family.gated
    chunk, hidden = min(rows, CHUNK), size.family.hidden(width)
    shapes = (
        ("qkv", rows, qkv_width(size), width),
        ("out", rows, width, width),
        ("up", chunk, hidden * (2 if gated else 1), width),
        ("down", chunk, width, hidden),
        ("head", min(rows, chunk_rows(size.vocab_size)), size.vocab_size, width),
    )
    for name, n, o, c in shapes:
        shape = f"{name} {n}x{o}x{c}"
        x, w, dy = draw.low(n, c), draw.normal(o, c, size=0.02), draw.low(n, o)
        bias = None if name == "head" else draw.normal(o)
        db = None if name == "head" else draw.empty(o)
        y = draw.empty(n, o) if name == "head" else draw.low_empty(n, o)  # logits are fp32
        dx, dw = draw.empty(n, c), draw.empty(o, c)  # what goes to the stream is fp32
        if name in ("out", "down"):
            dx = draw.low_empty(n, c)
        if name == "up" and not gated:
            act = draw.low_empty(n, o)
            arguments = (x, w, bias, y, act, GELU)
            yield Case("linear_activation_forward", shape, arguments, (3, 4))
        elif name in ("out", "down"):
            yield Case("linear_residual_forward", shape, (x, w, bias, draw.normal(n, o)), (3,))
            yield Case("linear_forward", shape, (x, w, bias, y), (3,))
        else:
            yield Case("linear_forward", shape, (x, w, bias, y), (3,))
        yield Case("linear_backward_input", shape, (dy, w, dx), (2,))
        yield Case("linear_backward_weight", shape, (dy, x, dw, db, False), (2, 3))
        yield Case("linear_backward", shape, (dy, w, x, dx, dw, db, False), (3, 4, 5))


def qkv_width(size: Size) -> int:
    """Return E, the channels of queries, keys and values."""
    return size.n_embd + 2 * size.family.key_heads(size.n_head) * size.n_embd // size.n_head


def attention(draw: Draw, size: Size) -> Iterator[Case]:
    """Attention without dropout; backward takes what forward left."""
    batch, time, width, heads = size.batch, size.time, size.n_embd, size.n_head
    shared, wide = size.family.key_heads(heads), qkv_width(size)
    scale = 1 / math.sqrt(width // heads)
    shape = f"{batch}x{time}x{width}, {heads} heads"
    qkv, dout = draw.low(batch, time, wide), draw.low(batch, time, width)
    rounded = ops.widen(qkv)
    out, lse = draw.low_empty(batch, time, width), draw.empty(batch, heads, time)
    options = (heads, shared, scale, *NO_DROPOUT, None, None)
    yield Case("attention_forward", shape, (qkv, out, lse, *options), (1, 2))
    out, lse = draw.empty(batch, time, width), lse.copy()
    ops.attention_forward(rounded, out, lse, *options)
    out = stored(out, draw.precision)
    dqkv = draw.low_empty(batch, time, wide)
    room = ops.dkv_shape(batch, time, heads, shared, width // heads)
    arguments = (dout, qkv, out, lse, dqkv, *options, None if room is None else draw.empty(*room))
    yield Case("attention_backward", shape, arguments, (4,))


def rotary(draw: Draw, size: Size) -> Iterator[Case]:
    """The rotation of queries and keys, and of their gradient, in place as in a step."""
    if size.family.learned_positions:
        return
    time, heads, wide = size.time, size.n_head, qkv_width(size)
    angle = draw.normal(time, size.n_embd // heads // 2)
    options = (heads, size.family.key_heads(heads), 0, None)
    for operation in ("rotary_forward", "rotary_backward"):
        qkv = draw.low(size.batch, time, wide)
        arguments = (qkv, np.cos(angle), np.sin(angle), qkv, *options)
        yield Case(operation, f"{size.batch}x{time}x{wide}, {heads} heads", arguments, (3,))


class Noting(ops.Watcher):
    """Keeps each call as it is about to be made: the operation and copies of its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        kept = (arg.copy() if isinstance(arg, np.ndarray) else arg for arg in args)
        self.calls.append((op, tuple(kept)))

    def cases(self, shape: str) -> Iterator[Case]:
        """Return the calls; what is compared is what the twin's docstring marks as written."""
        for op, args in self.calls:
            written = OPERATIONS[op].marks.written
            out = (i for i, name in enumerate(named(op, args)) if name in written)
            yield Case(op, shape, args, tuple(out))


def norms(draw: Draw, size: Size) -> Iterator[Case]:
    """What each norm calls: forward, again from what it kept, backward with the residual's."""
    rows, width = size.tokens, size.n_embd
    for kind in NORMS.values():
        parameters = Parameters(kind.parameters("norm", width, True))
        for parameter in parameters:
            parameter.data[...] = draw.normal(width)
        norm = kind.over(parameters, "norm", EPS)
        arrays = {name: draw.empty(*b.shape) for name, b in norm.plan(rows, "float32").items()}
        h, dy, dres = (draw.normal(rows, width) for _ in range(3))
        x, y, dx = draw.low_empty(rows, width), draw.low_empty(rows, width), draw.empty(rows, width)
        noting = Noting()
        with ops.watching(noting):
            norm.forward(h, x, y, arrays)
            norm.recompute(x, y, arrays)
            norm.backward(dy, x, dres, dx, arrays, arrays)
        yield from noting.cases(f"{rows}x{width}")


def elementwise(draw: Draw, size: Size) -> Iterator[Case]:
    """The activation over one chunk of rows; dropout and residual over the stream."""
    rows, width = size.tokens, size.n_embd
    chunk, hidden = min(rows, CHUNK), size.family.hidden(width)
    shape, act = f"{chunk}x{hidden}", (chunk, hidden)
    if size.family.gated:
        pre, dact = draw.low(chunk, 2 * hidden), draw.low(*act)
        yield Case("gated_forward", shape, (pre, draw.low_empty(*act), SILU), (1,))
        arguments = (pre, dact, draw.low_empty(*pre.shape), draw.low_empty(*act), SILU)
        yield Case("gated_backward", shape, arguments, (2, 3))
    else:
        x, dy = draw.low(*act), draw.low(*act)
        yield Case("activation_forward", shape, (x, draw.low_empty(*act), GELU), (1,))
        arguments = (x, dy, draw.low_empty(*act), draw.low_empty(*act), GELU)
        yield Case("activation_backward", shape, arguments, (2, 3))
    shape = f"{rows}x{width}"
    h, y = draw.normal(rows, width), draw.low(rows, width)
    yield Case("residual_forward", shape, (h, y, size.time, *NO_DROPOUT), (0,))
    yield Case("residual_forward", f"{shape}, dropout", (h.copy(), y, size.time, *KEY), (0,))
    dx = draw.low_empty(rows, width)
    yield Case("dropout_forward", f"{shape}, dropout", (h, dx, size.time, *KEY), (1,))
    yield Case("dropout_backward", f"{shape}, dropout", (h, dx.copy(), size.time, *KEY), (1,))


def loss(draw: Draw, size: Size) -> Iterator[Case]:
    """One chunk of logits, turned into its gradient."""
    rows, vocab = min(size.tokens, chunk_rows(size.vocab_size)), size.vocab_size
    weights = np.full(rows, 1 / rows, np.float32)
    arguments = (
        draw.normal(rows, vocab),
        draw.ids(vocab, rows),
        weights,
        draw.empty(rows),
        0.0,
        True,
    )
    yield Case("cross_entropy_tile", f"{rows}x{vocab}", arguments, (0, 3))
    ranks = (draw.normal(rows, vocab), draw.ids(vocab, rows), np.zeros(rows, np.int32))
    yield Case("target_rank", f"{rows}x{vocab}", ranks, (2,))


def embedding(draw: Draw, size: Size) -> Iterator[Case]:
    """Token and learned position; the gradient adds to that of the tied output matrix."""
    batch, time, width, vocab = size.batch, size.time, size.n_embd, size.vocab_size
    shape = f"{batch}x{time}x{width}, {vocab} tokens"
    tokens, table = draw.ids(vocab, batch, time), draw.normal(vocab, width)
    learned, h = size.family.learned_positions, draw.empty(batch * time, width)
    place = draw.normal(time, width) if learned else None
    yield Case("embedding_forward", shape, (tokens, table, place, h, None), (3,))
    order, first = np.zeros(batch * time, np.int32), np.zeros(vocab + 1, np.int32)
    dtoken = np.zeros((vocab, width), np.float32)
    dplace = draw.empty(time, width) if learned else None
    dh = draw.normal(batch * time, width)
    arguments = (tokens, dh, dtoken, dplace, order, first, True, False, None)
    yield Case("embedding_backward", shape, arguments, (2, 3) if learned else (2,))


def optimizer(draw: Draw, size: Size) -> Iterator[Case]:
    """The flat passes over all parameters, or over as many as no cache holds."""
    count = min(size.parameters(bias=True), FLAT)
    p, g, m = draw.normal(count), draw.normal(count), draw.normal(count)
    v = np.abs(draw.normal(count))
    partial = np.full(-(-count // ops.NORM_BLOCK), np.nan)
    yield Case("squared_norm", str(count), (g, partial), (1,))
    yield Case("adam_update", str(count), (p, g, m, v, *ADAMW), (0, 2, 3))
    moved = np.full((len(partial), 2), np.nan)
    measured = (p.copy(), g, m.copy(), v.copy(), *ADAMW[:-1], moved)
    yield Case("adam_update", f"{count}, measured", measured, (0, 2, 3, 13))
