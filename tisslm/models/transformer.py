"""A decoder-only transformer: layers over one set of parameters and one workspace.

What does not live here: sizes and presets (``transformer_config``), names and first values of the
parameters (``initialization``), token-by-token decoding (``decoding``), anything about training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops, threads
from tisslm.contracts import Batch, Buffer, Layer, Loss, Model, PassContext
from tisslm.errors import ConfigError, DataError, ShapeError
from tisslm.layers.attention import Attention
from tisslm.layers.dropout import Dropout
from tisslm.layers.embedding import Embedding
from tisslm.layers.linear import Linear
from tisslm.layers.mlp import MLP
from tisslm.layers.norm import LayerNorm
from tisslm.layers.precision import Precision
from tisslm.memory import Parameters, ShapeArena, Workspace
from tisslm.models.buffers import BlockPlan, PassBuffers, PassPlan
from tisslm.models.head import Head
from tisslm.models.initialization import initialize, parameter_specs
from tisslm.models.recomputation import Recomputation, run_backward, run_forward
from tisslm.models.transformer_config import TransformerConfig
from tisslm.records import check_targets

__all__ = ["Cache", "Transformer"]

Array = NDArray[Any]

#: Attention and MLP: what activation checkpointing keeps or computes again as a whole.
LAYERS_PER_BLOCK = 2


@dataclass(frozen=True)
class Cache:
    """What backward needs of a forward pass; good until the next one."""

    generation: int
    ctx: PassContext


@final
class Transformer(Model):
    """A decoder-only language model, of the GPT-2 family by default.

    Parameters
    ----------
    config : TransformerConfig
    seed : int
        Of the first values, and of every dropout mask.
    dtype : {"float32", "float64"}
        float64 runs the NumPy twins: slow, and the measure of everything else.

    Examples
    --------
    >>> import numpy as np
    >>> model = Transformer(TransformerConfig.preset("char-tiny", vocab_size=65))
    >>> logits, cache = model.forward(np.zeros((2, 8), dtype=np.int32))
    >>> logits.shape
    (2, 8, 65)

    References
    ----------
    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    Press and Wolf, "Using the Output Embedding to Improve Language Models", arXiv 1608.05859.
    """

    def __init__(
        self, config: TransformerConfig, *, seed: int = 42, dtype: str = "float32"
    ) -> None:
        if dtype not in ("float32", "float64"):
            raise ConfigError(f"model: expected dtype 'float32' or 'float64', got {dtype!r}")
        threads.limit_blas()
        self._assemble(config, seed, dtype, Parameters(parameter_specs(config), dtype))
        initialize(self.parameters, config, seed)

    @classmethod
    def of_shapes(cls, config: TransformerConfig, dtype: str = "float32") -> Transformer:
        """Return a model without memory: the shapes and plans of the real one, and no passes."""
        model = cls.__new__(cls)
        specs = parameter_specs(config)
        model._assemble(config, 0, dtype, Parameters(specs, dtype, arena=ShapeArena))
        return model

    def _assemble(
        self, config: TransformerConfig, seed: int, dtype: str, parameters: Parameters
    ) -> None:
        self.config = config
        self.seed = seed
        self.dtype = dtype
        self.parameters = parameters
        self._generation = 0
        self._fix(Precision.of("fp32", dtype), Recomputation())
        # (updates, zero_grads) at the last training forward, and the rows used since
        self._drawn_rows = ((0, 0), 0)

    # ------------------------------------------------------------------ structure

    def _build(self) -> None:
        config, get = self.config, self.parameters
        self.embedding = Embedding(
            get["embedding.token.weight"],
            get["embedding.position.weight"],
            Dropout(config.dropout, site=0),
        )
        self.layers: list[Layer] = []
        for i in range(config.n_layer):
            self.layers += [self._attention(i), self._mlp(i)]
        tied = "embedding.token.weight" if config.tie_embeddings else "head.weight"
        self.head = Head(self._norm("final_norm"), Linear(get[tied], None), self.precision)

    def _norm(self, name: str) -> LayerNorm:
        get = self.parameters
        bias = get[f"{name}.bias"] if self.config.bias else None
        return LayerNorm(get[f"{name}.weight"], bias, self.config.norm_eps)

    def _linear(self, name: str) -> Linear:
        get = self.parameters
        return Linear(get[f"{name}.weight"], get[f"{name}.bias"] if self.config.bias else None)

    def _attention(self, i: int) -> Attention:
        config, name = self.config, f"blocks.{i}.attention"
        return Attention(
            self._norm(f"{name}.norm"),
            self._linear(f"{name}.qkv"),
            self._linear(f"{name}.out"),
            config.n_head,
            config.n_kv_head,
            Dropout(config.dropout, site=1 + 3 * i),
            Dropout(config.dropout, site=2 + 3 * i),
            self.precision,
        )

    def _mlp(self, i: int) -> MLP:
        name = f"blocks.{i}.mlp"
        return MLP(
            self._norm(f"{name}.norm"),
            self._linear(f"{name}.up"),
            self._linear(f"{name}.down"),
            ops.ACTIVATIONS[self.config.activation],
            Dropout(self.config.dropout, site=3 + 3 * i),
            self.precision,
        )

    # ------------------------------------------------------------------ preparation

    def prepare(self, *, precision: str = "fp32", activation_checkpointing: str = "none") -> None:
        """Fix how later passes are run; parameters and gradients are left as they are.

        The workspace is dropped, and a cache of an earlier ``forward`` is stale.

        Parameters
        ----------
        precision : {"fp32", "bf16", "fp16"}
            Element type of stored activations and of matrix products.
        activation_checkpointing : {"none", "full", "every=N"}
            Which blocks keep only the stream at their input, and run their forward again in
            backward: none, all, or one in N (blocks N-1, 2N-1, ...). The bits do not depend on it.

        Raises
        ------
        ConfigError
            For any other value; nothing is changed then.
        """
        recomputation = Recomputation.parse(activation_checkpointing)
        self._fix(Precision.of(precision, self.dtype), recomputation)

    def _fix(self, precision: Precision, recomputation: Recomputation) -> None:
        """Build the layers for one way to run passes, and forget the passes that were."""
        self.precision = precision
        self._recomputation = recomputation
        self._workspace: Workspace | None = None
        self._passes: dict[tuple[int, int], PassBuffers] = {}
        self._generation += 1
        self._build()

    # ------------------------------------------------------------------ sizes

    @property
    def vocab_size(self) -> int:
        """V: the number of token ids."""
        return self.config.vocab_size

    @property
    def seq_len(self) -> int:
        """The longest T that the model takes."""
        return self.config.seq_len

    def flops_per_token(self, time: int) -> int:
        """Count a training step's operations per token: 6 P + 6 L C T, causal half counted."""
        config = self.config
        return 6 * self.parameters.count + 6 * config.n_layer * config.n_embd * time

    def _plan(self, batch: int, time: int) -> PassPlan:
        rows, channels = batch * time, self.config.n_embd
        stream = Buffer((rows, channels), self.dtype, "saved")
        own = {
            "tokens": Buffer((batch, time), "int32", "saved"),
            "targets": Buffer((rows,), "int32", "saved"),
            "weights": Buffer((rows,), self.dtype, "saved"),
            "h": stream,
            "dh": stream,
            **self.embedding.plan((batch, time)),
            **self.head.plan(rows),
        }
        blocks = []
        for i in range(self.config.n_layer):
            layers = self.layers[LAYERS_PER_BLOCK * i : LAYERS_PER_BLOCK * (i + 1)]
            plans = [layer.plan((batch, time)) for layer in layers]
            blocks.append(BlockPlan(plans, stream if self._recomputation.takes(i) else None))
        return PassPlan(own, blocks)

    def plan(self, batch: int, time: int) -> dict[str, int]:
        """Return the bytes of every activation and scratch buffer of a pass, by name.

        ``layers.<i>.<name>`` is what a layer of a kept block saves, ``layers.<i>.stream`` the
        stream before a recomputed block, and ``scratch.shared`` holds what does not live at the
        same time: the chunk of logits, and the layers' scratch with the recomputed block at hand.
        """
        return self._plan(batch, time).sizes()

    @property
    def thread_scratch(self) -> int:
        """Bytes of the kernels' scratch, for all threads together."""
        return ops.thread_scratch_bytes(*self._scratch_shape)

    @property
    def _scratch_shape(self) -> tuple[int, int, int, int, str]:
        config = self.config
        group = config.n_head // config.n_kv_head
        stored = self.precision.stored
        return config.seq_len, config.head_size, group, config.n_embd, stored

    @property
    def layer_names(self) -> list[str]:
        """Name the layers of ``plan`` as their parameters are named."""
        parts = ("attention", "mlp")
        return [f"blocks.{i}.{part}" for i in range(self.config.n_layer) for part in parts]

    def _buffers(self, batch: int, time: int) -> PassBuffers:
        """Return the buffers of a shape; a larger one than before makes a new workspace."""
        if (batch, time) not in self._passes:
            if not self.parameters.has_memory:
                raise ShapeError(
                    "model: made by of_shapes, it has plans but no parameters; build a Transformer"
                )
            ops.reserve_scratch(*self._scratch_shape)
            plan = self._plan(batch, time)
            sizes = plan.sizes()
            if self._workspace is None or not self._workspace.fits(sizes):
                old = {} if self._workspace is None else self._workspace.sizes
                self._passes.clear()
                self._workspace = None  # freed before the larger one is made
                self._workspace = Workspace({n: max(s, old.get(n, 0)) for n, s in sizes.items()})
            self._passes[batch, time] = PassBuffers(self._workspace, plan)
        return self._passes[batch, time]

    # ------------------------------------------------------------------ passes

    def _load_tokens(self, x: Array) -> PassBuffers:
        if not isinstance(x, np.ndarray) or x.ndim != 2 or x.dtype.kind not in "iu" or x.size == 0:
            got = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
            raise ShapeError(f"model: expected integer token ids of shape (B, T), got {got}")
        if x.shape[1] > self.seq_len:
            raise ShapeError(
                f"model: expected sequences of at most {self.seq_len} tokens (model.seq_len), "
                f"got {x.shape[1]}. Cut the sequences or build a model with a larger seq_len"
            )
        if x.dtype.itemsize > 4 and not -(2**31) <= int(x.min()) <= int(x.max()) < 2**31:
            raise DataError(f"token ids: expected ids below {self.vocab_size}, got {int(x.max())}")
        buffers = self._buffers(*x.shape)
        buffers.own["tokens"][...] = x
        return buffers

    def _encode(
        self,
        x: Array,
        train: bool,
        first_row: int,
        *,
        gradient: bool = True,
        visit: Callable[[int], None] | None = None,
    ) -> tuple[PassBuffers, PassContext]:
        """Run everything below the output projection."""
        buffers = self._load_tokens(x)
        batch, time = x.shape
        ctx = PassContext(batch, time, train, self.seed, self.parameters.updates, first_row)
        self._generation += 1
        h_NC = buffers.own["h"]
        self.embedding.forward(buffers.own["tokens"], h_NC, ctx)
        run_forward(self.layers, h_NC, buffers, ctx, gradient=gradient, visit=visit)
        self.head.normalize(h_NC, buffers.own)
        return buffers, ctx

    def _decode_gradient(self, buffers: PassBuffers, ctx: PassContext) -> None:
        """Run backward from the gradient by the normalized stream, in ``dh``, down to the ids."""
        own = buffers.own
        dh_NC = own["dh"]
        self.head.backward_norm(own["h"], dh_NC, own)
        run_backward(self.layers, dh_NC, buffers, ctx)
        self.embedding.backward(own["tokens"], dh_NC, own, ctx)

    def forward(self, x: Array, *, train: bool = False) -> tuple[Array, Cache]:
        """Compute logits, and the cache for ``backward``.

        Parameters
        ----------
        x : integer ndarray of shape (B, T)
        train : bool
            Whether dropout is applied. Rows are numbered through all training passes since the
            last update or ``zero_grad``, so accumulated micro-batches draw what one large batch
            would.

        Returns
        -------
        logits : ndarray of shape (B, T, V), the model's dtype
            A new array.
        cache : Cache
        """
        now = (self.parameters.updates, self.parameters.generation)
        since, used = self._drawn_rows
        if since != now:
            used = 0
        buffers, ctx = self._encode(x, train, used if train else 0)
        if train:
            self._drawn_rows = (now, used + x.shape[0])
        logits = np.empty((x.size, self.vocab_size), dtype=self.dtype)
        self.head.logits(buffers.own, logits)
        return logits.reshape(*x.shape, self.vocab_size), Cache(self._generation, ctx)

    def forward_with_qkv(self, x: Array, take: Callable[[Array], None]) -> Array:
        """Compute logits without a cache for ``backward``; show what attention works on.

        Parameters
        ----------
        x : integer ndarray of shape (B, T)
        take : callable
            Called once per block, in order, with its queries, keys and values: of shape
            (B, T, (H + 2K) D) and the model's dtype, good for this call only.

        Returns
        -------
        logits : ndarray of shape (B, T, V)
            A new array.
        """

        def visit(i: int) -> None:
            saved = self._buffers(*x.shape).saved[i]
            if "qkv" in saved:
                take(ops.widen(saved["qkv"]))

        buffers, _ = self._encode(x, False, 0, gradient=False, visit=visit)
        logits = np.empty((x.size, self.vocab_size), dtype=self.dtype)
        self.head.logits(buffers.own, logits)
        return logits.reshape(*x.shape, self.vocab_size)

    def backward(self, d_logits: Array, cache: Cache) -> None:
        """Add the gradients of all parameters.

        Parameters
        ----------
        d_logits : ndarray of shape (B, T, V), the model's dtype
        cache : Cache
            Of the last ``forward``.
        """
        ctx = cache.ctx
        expected = (ctx.batch, ctx.time, self.vocab_size)
        if d_logits.shape != expected or d_logits.dtype != self.dtype:
            raise ShapeError(
                f"model.backward: expected d_logits of shape {expected} {self.dtype}, "
                f"got {d_logits.shape} {d_logits.dtype}"
            )
        if cache.generation != self._generation:
            raise ShapeError(
                "model.backward: this cache is stale, another forward pass has overwritten it. "
                "Call backward before the next forward"
            )
        self._generation += 1  # backward uses up the buffers
        buffers = self._buffers(ctx.batch, ctx.time)
        flat = np.ascontiguousarray(d_logits).reshape(-1, self.vocab_size)
        self.head.backward_logits(flat, buffers.own, buffers.own["dh"])
        self._decode_gradient(buffers, ctx)

    def step_loss(
        self,
        batch: Batch,
        loss: Loss,
        *,
        gradient: bool = True,
        train: bool = True,
        first_row: int = 0,
    ) -> float:
        """Compute the batch's share of the loss and add its gradients, chunk by chunk.

        Parameters
        ----------
        batch : Batch
        loss : Loss
        gradient : bool
            Whether gradients are added.
        train : bool
            Whether dropout is applied.
        first_row : int
            Index of the batch's first row within the whole update.

        Returns
        -------
        float
            The sum of the targets' losses times their weights.
        """
        if batch.y_BT.shape != batch.x_BT.shape:
            raise ShapeError(
                f"model: expected targets of shape {batch.x_BT.shape}, got {batch.y_BT.shape}"
            )
        check_targets(batch.y_BT)
        buffers, ctx = self._encode(batch.x_BT, train, first_row, gradient=gradient)
        own = buffers.own
        if loss.needs == "hidden":
            hidden = ops.widen(own["hidden"]).reshape(*batch.x_BT.shape, -1)
            total, d_hidden = loss.whole(hidden, batch)
            own["dh"][...] = d_hidden.reshape(own["dh"].shape)
        else:
            own["targets"][...] = batch.y_BT.reshape(-1)
            own["weights"][...] = batch.weights_BT.reshape(-1)
            dh_NC = own["dh"] if gradient else None
            total = self.head.loss(loss, own["targets"], own["weights"], own, dh_NC)
        if gradient:
            self._decode_gradient(buffers, ctx)
        return total
