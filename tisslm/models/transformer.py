"""The decoder-only transformer: forward and backward passes through its parts.

Sizes and presets are in ``tisslm.config.model``, parameters and their initial values in
``initialization``, what is below the head in ``body``, decoding in ``decoding``, how models are
opened and what of them is trained in ``tuning.tuned_model``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.config.model import TransformerConfig
from tisslm.contracts import Batch, Layer, Loss, PassContext
from tisslm.contracts.batch import check_targets
from tisslm.contracts.model import TargetLosses
from tisslm.errors import ConfigError, ShapeError
from tisslm.memory import Parameters
from tisslm.models.body.body import Body, made_parameters
from tisslm.models.body.buffers import PassBuffers
from tisslm.models.body.recomputation import Recomputation
from tisslm.models.checks import gradient_rows
from tisslm.models.decoding import TransformerDecoder
from tisslm.models.head import Head
from tisslm.models.huggingface.exchange import FolderExchange, exchange_of
from tisslm.models.layers.attention import not_causal
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.precision import Precision
from tisslm.models.stored_weights import stored_matrices
from tisslm.models.tuning.tuned_model import TunedModel
from tisslm.models.tuning.tuning import Tuning

__all__ = ["Cache", "Transformer"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Cache:
    """What backward needs of a forward pass; valid until the next pass."""

    ctx: PassContext


@final
class Transformer(TunedModel):
    """A decoder-only language model of a built-in family, by default that of GPT-2.

    Parameters
    ----------
    config : TransformerConfig
    seed : int
        Seed of the initial values and of every dropout mask.
    dtype : {"float32", "float64"}
        Type of the parameters. float64 runs the NumPy twins, slowly, as a reference for float32.
    parameters : Parameters, optional
        Parameters to use unchanged, such as those of a checkpoint; initialized ones if left out.
    tuning : Tuning, optional
        What of it is trained, and by which adapters; all of it if left out.

    Examples
    --------
    >>> import numpy as np
    >>> model = Transformer(TransformerConfig.preset("char-tiny", vocab_size=65))
    >>> logits, cache = model.forward(np.zeros((2, 8), dtype=np.int32))
    >>> logits.shape
    (2, 8, 65)

    Attributes
    ----------
    base : Base or None
        What is on the disk of the model that adapters are beside.

    References
    ----------
    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    Press and Wolf, "Using the Output Embedding to Improve Language Models", arXiv 1608.05859.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        seed: int = 42,
        dtype: str = "float32",
        parameters: Parameters | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        if config.embeds:
            raise ConfigError(
                f'model.pooling: expected "none" of a language model, got "{config.pooling}"; '
                "leave it out, or build a TextEncoder"
            )
        self.config: TransformerConfig = config
        self.family = config.family
        self.seed: int = seed
        self.writes_text = config.causal
        self.sees_ahead = not config.causal
        self.wants_scale_free = bool(config.mup_base_width)
        self.tuning = tuning or Tuning()
        specs = self.tuning.specs(config)
        self.parameters = made_parameters(config, seed, dtype, parameters, specs)
        self._build(Precision.of("fp32", dtype), Recomputation())
        # (updates, zero_grads) at the last training forward, and the rows used since
        self._drawn_rows = ((0, 0), 0)

    def exchange(self) -> FolderExchange | None:
        """Return the model as Hugging Face transformers has it; None if no class has its shape."""
        return exchange_of(self.config, self.dtype)

    # ------------------------------------------------------------------ preparation

    def prepare(self, *, precision: str = "fp32", activation_checkpointing: str = "none") -> None:
        """Choose how later passes are run; parameters and gradients are left unchanged.

        The workspace is dropped, and a cache of an earlier ``forward`` becomes invalid.

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
            For any other value; nothing is then changed.
        """
        recomputation = Recomputation.parse(activation_checkpointing)
        self._build(Precision.of(precision, self.dtype), recomputation)

    def _build(
        self,
        precision: Precision,
        recomputation: Recomputation,
        matrices: Parameters | None = None,
    ) -> None:
        """Make body and head, with buffers of their own."""
        self.head = self._head(precision, matrices or self.parameters)
        self.body = self._body(precision, recomputation, self.head, matrices)

    def _planned_body(self, precision: Precision, recomputation: Recomputation) -> Body:
        return self._body(precision, recomputation, self._head(precision, self.parameters))

    def _head(self, precision: Precision, matrices: Parameters) -> Head:
        name = "embedding.token.weight" if self.config.tie_embeddings else "head.weight"
        below = any(p.trainable and p.name != "head.weight" for p in self.parameters)
        cap, factor = self.config.logit_cap, self.config.width_ratio
        return Head(Linear(matrices[name], None), precision, cap, below=below, factor=factor)

    def _body(
        self,
        precision: Precision,
        recomputation: Recomputation,
        head: Head,
        matrices: Parameters | None = None,
    ) -> Body:
        return Body(
            self.config,
            self.parameters,
            self.seed,
            precision,
            recomputation,
            head.plan,
            matrices,
            self.tuning.adapter,
        )

    # ------------------------------------------------------------------ sizes

    def flops_per_token(self, time: int) -> int:
        """Return a training step's operations per token: 6 P, and 12 H D for each key that is seen.

        P counts the parameters that are multiplied: all but tables of which a row is taken. Of a
        row of T tokens without a window, a token sees T / 2 keys in the mean.
        """
        tables = ["embedding.position.weight"]
        if not self.config.tie_embeddings:
            tables.append("embedding.token.weight")
        return self.body.product_flops(*tables) + self.body.attention_flops(time)

    @property
    def cache_bytes(self) -> int:
        """The bytes of keys and values for one sequence of ``seq_len`` tokens."""
        plans = [layer.cache_plan(1, self.seq_len) for layer in self.layers]
        return sum(buffer.nbytes for plan in plans for buffer in plan.values())

    def decoder(self, weights: str = "fp32") -> TransformerDecoder:
        """Return a new decoder, which keeps keys and values.

        Parameters
        ----------
        weights : {"fp32", "bf16"}
            What is read for each token: the parameters, or a copy of the matrices that is rounded
            to bfloat16 now, with half of their bytes beside them. Biases, norms, and tables of
            which a row is taken stay as they are.

        Raises
        ------
        ConfigError
            For any other value.
        """
        if not self.config.causal:
            raise not_causal()
        return TransformerDecoder(self if weights == "fp32" else self._with_stored(weights))

    def _with_stored(self, weights: str) -> Transformer:
        """Return a model over the same parameters whose products read a rounded copy."""
        other = copy.copy(self)
        matrices = stored_matrices(self.config, self.parameters, weights)
        other._build(self.precision, self.body.recomputation, matrices)
        return other

    @property
    def layers(self) -> list[Layer]:
        """The layers in order: attention and MLP in turn, or both in one."""
        return [layer for _, layer in self.body.layers]

    # ------------------------------------------------------------------ passes

    def forward(
        self, x: Array, *, train: bool = False, start: Array | None = None
    ) -> tuple[Array, Cache]:
        """Compute logits, and the cache for ``backward``.

        Parameters
        ----------
        x : integer ndarray of shape (B, T)
        train : bool
            Whether dropout is applied. Rows are numbered through all training passes since the
            last update or ``zero_grad``, so accumulated micro-batches draw what one large batch
            would.
        start : integer ndarray of shape (B, T), optional
            Position in its row at which the document of each token begins: tokens attend to those
            of their document, and positions count from its beginning. None: a row is one document.

        Returns
        -------
        logits : ndarray of shape (B, T, V), the model's dtype
            A new array.
        cache : Cache

        Raises
        ------
        ShapeError, DataError
            If x has no token ids, or start is no such array.
        """
        now = (self.parameters.updates, self.parameters.generation)
        since, used = self._drawn_rows
        if since != now:
            used = 0
        first_row = used if train else 0
        buffers, ctx = self.body.forward(
            x, train=train, first_row=first_row, start=start, observers=self.observers
        )
        if train:
            self._drawn_rows = (now, used + x.shape[0])
        logits = np.empty((x.size, self.vocab_size), dtype=self.dtype)
        self.head.logits(buffers.own, logits, self.observers)
        return logits.reshape(*x.shape, self.vocab_size), Cache(ctx)

    def last_logits(
        self,
        x: Array,
        caches: Sequence[Mapping[str, Array]] = (),
        lengths_B: Array | None = None,
    ) -> Array:
        """Compute only the logits after the last tokens, without a cache for ``backward``.

        Parameters
        ----------
        x : integer ndarray of shape (B, T)
        caches : sequence of mappings of str to ndarray
            A cache for each layer, with the arrays of its ``cache_plan``; it is filled.
        lengths_B : integer ndarray of shape (B,), optional
            Tokens of each row; what follows is padding, which no token sees. None: T in each.

        Returns
        -------
        logits : ndarray of shape (B, V)
            A new array.
        """
        buffers, _ = self.body.forward(x, gradient=False, observers=self.observers, caches=caches)
        last = -1 if lengths_B is None else np.asarray(lengths_B) - 1
        last_BC = buffers.own["hidden"].reshape(*x.shape, -1)[np.arange(len(x)), last]
        logits = np.empty((len(x), self.vocab_size), dtype=self.dtype)
        self.head.logits({"hidden": last_BC}, logits, self.observers)
        return logits

    def read_logits(self, x: Array, start: Array | None = None) -> Callable[[slice, Array], None]:
        """Make a pass without dropout or gradient, and return what writes some of its logits.

        They are projected when they are asked for. Parameters are those of the contract.
        """
        buffers, _ = self.body.forward(x, start=start, gradient=False, observers=self.observers)
        hidden_NC = buffers.own["hidden"]

        def write(rows: slice, out_NV: Array) -> None:
            self.head.logits({"hidden": hidden_NC[rows]}, out_NV, self.observers)

        return write

    def backward(self, d_logits: Array, cache: Cache) -> None:
        """Add the gradients of all parameters, given the gradient by the logits.

        Parameters
        ----------
        d_logits : ndarray of shape (B, T, V), the model's dtype
        cache : Cache
            The cache of the last ``forward``.
        """
        ctx = cache.ctx
        rows = gradient_rows(d_logits, (ctx.batch, ctx.time, self.vocab_size), self.dtype)
        buffers = self.body.take(ctx, "model.backward")
        self.head.backward_logits(rows, buffers.own, buffers.own["dh"], self.observers)
        self.body.backward(buffers, ctx, self.observers)

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
        buffers, ctx = self._read(batch, train=train, first_row=first_row, gradient=gradient)
        own = buffers.own
        if loss.needs == "hidden":
            hidden = ops.widen(own["hidden"]).reshape(*batch.x_BT.shape, -1)
            total, d_hidden = loss.whole(hidden, batch)
            own["dh"][...] = d_hidden.reshape(own["dh"].shape)
        else:
            dh_NC = own["dh"] if gradient else None
            total = self.head.loss(loss, own["targets"], own["weights"], own, dh_NC, self.observers)
        if gradient:
            self.body.backward(buffers, ctx, self.observers)
        return total

    def step_weighed(
        self,
        batch: Batch,
        loss: Loss,
        weigh: Callable[[Array], Array],
        *,
        train: bool = True,
        first_row: int = 0,
    ) -> None:
        """Add the gradients of something that follows from the losses of all targets of a batch.

        One pass through the body and back; the head alone is asked twice, for losses and for
        gradients. Parameters are those of the contract.
        """
        buffers, ctx = self._read(batch, train=train, first_row=first_row, gradient=True)
        own, seen = buffers.own, TargetLosses(loss)
        self.head.loss(seen, own["targets"], own["weights"], own, None, self.observers)
        own["weights"][...] = weigh(seen.taken(batch.y_BT.shape)).reshape(-1)
        self.head.loss(loss, own["targets"], own["weights"], own, own["dh"], self.observers)
        self.body.backward(buffers, ctx, self.observers)

    def _read(
        self, batch: Batch, *, train: bool, first_row: int, gradient: bool
    ) -> tuple[PassBuffers, PassContext]:
        """Make the forward pass below the head, and put targets and weights beside it."""
        if batch.y_BT.shape != batch.x_BT.shape:
            raise ShapeError(
                f"model: expected targets of shape {batch.x_BT.shape}, got {batch.y_BT.shape}"
            )
        check_targets(batch.y_BT)
        buffers, ctx = self.body.forward(
            batch.x_BT,
            train=train,
            first_row=first_row,
            start=batch.start_BT,
            gradient=gradient,
            observers=self.observers,
        )
        buffers.own["targets"][...] = batch.y_BT.reshape(-1)
        buffers.own["weights"][...] = batch.weights_BT.reshape(-1)
        return buffers, ctx
