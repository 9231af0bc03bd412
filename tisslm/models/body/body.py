"""What every transformer runs below its head: from token ids to the normalized stream, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.config.model import TransformerConfig
from tisslm.config.sections import AdapterConfig
from tisslm.contracts import Buffer, PassContext
from tisslm.contracts.pass_observer import PassObserver, enter, leave
from tisslm.errors import ConfigError, ShapeError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.body.buffers import PassBuffers, PassMemory
from tisslm.models.body.recomputation import (
    NamedLayer,
    Recomputation,
    run_backward,
    run_forward,
)
from tisslm.models.body.stack import Stack
from tisslm.models.checks import check_parameters, check_starts, check_tokens
from tisslm.models.initialization import initialize, parameter_specs
from tisslm.models.layers.embedding import Embedding
from tisslm.models.layers.precision import Precision
from tisslm.models.window import fill_stops, fill_window, twice_keys_seen
from tisslm.ops import threads

__all__ = ["Body", "made_parameters"]

Array = NDArray[Any]
Observers = tuple[PassObserver, ...]


def made_parameters(
    config: TransformerConfig,
    seed: int,
    dtype: str,
    given: Parameters | None,
    specs: Sequence[ParameterSpec] = (),
) -> Parameters:
    """Return the parameters of a shape: those given, once they are looked at, or initialized ones.

    ``specs`` are those of a model of which not all is trained.

    Raises
    ------
    ConfigError
        For a type that no model has.
    ShapeError
        If those that are given do not fit.
    """
    if dtype not in ("float32", "float64"):
        raise ConfigError(f"model: expected dtype 'float32' or 'float64', got {dtype!r}")
    specs = specs or list(parameter_specs(config))
    if given is not None:
        check_parameters(given, specs, dtype)
        if given.has_memory:
            threads.limit_blas()
        return given
    parameters = Parameters(specs, dtype)
    threads.limit_blas()
    initialize(parameters, config, seed)
    return parameters


def _nothing(rows: int) -> Mapping[str, Buffer]:
    """Plan no buffers."""
    return {}


@final
class Body:
    """Embedding, layers and final norm over some parameters, as ``prepare`` wants passes run.

    Parameters
    ----------
    config : TransformerConfig
    parameters : Parameters
    seed : int
        Of dropout.
    precision : Precision
    recomputation : Recomputation
    above : callable
        It plans the buffers of what takes the normalized stream, for a number of rows; nothing, by
        default.
    matrices : Parameters, optional
        What products read instead; such a body is not trained.
    adapter : AdapterConfig, optional
        What adapters there are among the parameters.
    """

    def __init__(
        self,
        config: TransformerConfig,
        parameters: Parameters,
        seed: int,
        precision: Precision,
        recomputation: Recomputation,
        above: Callable[[int], Mapping[str, Buffer]] = _nothing,
        matrices: Parameters | None = None,
        adapter: AdapterConfig | None = None,
    ) -> None:
        self.config = config
        self.parameters = parameters
        self.seed = seed
        self.precision = precision
        self.recomputation = recomputation
        self._above = above
        self.stack = Stack.build(config, parameters, precision, matrices, adapter)
        self.memory = PassMemory()
        #: The pass whose activations are there; None once a backward has used them up.
        self.current: PassContext | None = None

    # ------------------------------------------------------------------ sizes

    @property
    def embedding(self) -> Embedding:
        """The tables of tokens and positions."""
        return self.stack.embedding

    @property
    def layers(self) -> list[NamedLayer]:
        """The layers in order, with their names."""
        return self.stack.layers

    def plan(self, batch: int, time: int) -> dict[str, int]:
        """Return the bytes of every activation and scratch buffer of a pass, by name."""
        plan = self.stack.plan(batch, time, self.recomputation, self._above(batch * time))
        return {**plan.sizes(), **self.stack.tables}

    def attention_flops(self, time: int) -> int:
        """Return a training step's operations per token for its keys: 12 H D for each it sees.

        Of a row of T tokens without a window, a token sees T / 2 keys in the mean. Layers before
        all that is trained have no backward, and a third of it.
        """
        config, untrained = self.config, self.stack.untrained
        pairs = sum(
            twice_keys_seen(time, config.window_of(i), config.causal)
            * (2 if f"blocks.{i}.attention.".startswith(untrained) else 6)
            for i in range(config.n_layer)
        )
        return pairs * config.n_head * config.head_dim

    def product_flops(self, *tables: str) -> int:
        """Return those for its parameters: 6 for each that is multiplied.

        What is frozen has no gradient of its own, and a third less; what backward does not come to
        has a third.

        Parameters
        ----------
        *tables : str
            Names of those of which a row is taken instead.
        """
        untrained = self.stack.untrained
        return sum(
            p.size * (2 + 2 * p.trainable + 2 * (not p.name.startswith(untrained)))
            for p in self.parameters
            if p.name not in tables
        )

    @property
    def thread_scratch(self) -> int:
        """The bytes of the kernels' scratch, of all threads together."""
        return ops.thread_scratch_bytes(*self._scratch_shape)

    @property
    def _scratch_shape(self) -> tuple[int, int, int, str]:
        config = self.config
        return config.seq_len, config.head_dim, config.n_embd, self.precision.stored

    def buffers(self, batch: int, time: int) -> PassBuffers:
        """Return the buffers of a shape; a workspace that is too small is replaced."""
        if (batch, time) not in self.memory:
            if not self.parameters.has_memory:
                raise ShapeError(
                    "model: made by of_shapes, it has plans but no parameters; build a Transformer"
                )
            ops.reserve_scratch(*self._scratch_shape)
            plan = self.stack.plan(batch, time, self.recomputation, self._above(batch * time))
            self.memory.make(batch, time, plan)
        return self.memory[batch, time]

    # ------------------------------------------------------------------ passes

    def _load_tokens(self, x: Array, start: Array | None) -> PassBuffers:
        check_tokens(x, self.config.seq_len, self.config.vocab_size)
        if start is not None:
            check_starts(start, x.shape)
        buffers = self.buffers(*x.shape)
        buffers.own["tokens"][...] = x
        if start is not None:
            buffers.own["start"][...] = start
        return buffers

    def forward(
        self,
        x: Array,
        *,
        train: bool = False,
        first_row: int = 0,
        start: Array | None = None,
        gradient: bool = True,
        computed: int | None = None,
        observers: Observers = (),
        caches: Sequence[Mapping[str, Array]] = (),
    ) -> tuple[PassBuffers, PassContext]:
        """Leave the normalized stream in ``hidden`` of the buffers.

        Parameters
        ----------
        x : integer ndarray of shape (B, T)
        train, first_row
            Whether dropout is applied, and the index of its first row within the update.
        start : integer ndarray of shape (B, T), optional
            Where the document of each token begins; None: a row is one document.
        gradient : bool
            Whether a backward may follow.
        computed : int, optional
            How many rows of the stream to compute, if what follows is padding: it is then nobody's,
            and the gradient by it must be 0. Bits of the others do not depend on it. Observers,
            who look at all rows, have all of them computed.
        observers : tuple of PassObserver
        caches : sequence of mappings of str to ndarray
            A cache for each layer, filled for decoding; none if left out.

        Returns
        -------
        buffers : PassBuffers
        ctx : PassContext
            The ``current`` pass until the next.
        """
        buffers = self._load_tokens(x, start)
        own = buffers.own
        kept, seen = None if start is None else own["start"], own.get("window")
        if seen is not None:
            fill_window(seen, kept, self.config.window)
        if (stop := own.get("stop")) is not None:
            fill_stops(stop, kept)
        (batch, time), updates = x.shape, self.parameters.updates
        ctx = PassContext(
            batch,
            time,
            train,
            self.seed,
            updates,
            first_row,
            kept,
            seen,
            stop,
            None if observers else computed,
        )
        self.current = ctx
        h_NC = own["h"]
        enter(observers, "embedding", "forward")
        self.embedding.forward(own["tokens"], h_NC, ctx)
        leave(observers, "embedding", "forward", {"tokens": own["tokens"]}, stream=h_NC)
        h_NC = h_NC[: ctx.rows]
        run_forward(
            self.layers, h_NC, buffers, ctx, gradient=gradient, observers=observers, caches=caches
        )
        self.stack.final_norm.forward(h_NC, own, observers)
        return buffers, ctx

    def backward(self, buffers: PassBuffers, ctx: PassContext, observers: Observers = ()) -> None:
        """Go from the gradient by the normalized stream, in ``dh``, down to what is trained."""
        if not self.stack.trained:
            return
        own = buffers.own
        dh_NC = own["dh"][: ctx.rows]
        self.stack.final_norm.backward(own["h"][: ctx.rows], dh_NC, own, observers)
        first = self.stack.first_trained
        run_backward(self.layers, dh_NC, buffers, ctx, first=first, observers=observers)
        if not self.embedding.trainable:
            return
        enter(observers, "embedding", "backward")
        self.embedding.backward(own["tokens"], own["dh"], own, ctx)
        leave(observers, "embedding", "backward", {"tokens": own["tokens"]}, d_stream=dh_NC)

    def take(self, ctx: PassContext, where: str) -> PassBuffers:
        """Return the buffers of a pass for its backward, which uses them up.

        Raises
        ------
        ShapeError
            If another pass has overwritten them, or a backward has used them up.
        """
        if ctx is not self.current:
            raise ShapeError(
                f"{where}: this cache is stale, another forward pass has overwritten it. "
                "Call backward before the next forward"
            )
        self.current = None
        return self.buffers(ctx.batch, ctx.time)
