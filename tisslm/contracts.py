"""Every interface of TissLM on one page.

A part keeps exactly one of these contracts. Classes are abstract here and final where they
are implemented; a plugin imports what it needs from this module. Letters in array names are
those of ``docs/notation.md``: B batch, T time, N = B*T, C channels, V vocabulary, P parameters.

What does not live here: any implementation beyond the few lines that keep a contract whole
(a pending clip that is never lost, a loss evaluated in fixed chunks).
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import CheckpointError, ConfigError, ShapeError
from tisslm.observation import Observed, PassObserver
from tisslm.part_names import name_of
from tisslm.records import (
    IGNORE_INDEX,
    Batch,
    Buffer,
    PassContext,
    RunInfo,
    Window,
    check_targets,
    chunk_rows,
    stack_windows,
    target_weights,
)
from tisslm.values import Histogram, Text

if TYPE_CHECKING:
    from tisslm.memory import ParameterGroup, Parameters, ParameterSpec

__all__ = [
    "IGNORE_INDEX",
    "Batch",
    "Buffer",
    "Communicator",
    "Dataset",
    "Decoder",
    "Histogram",
    "Layer",
    "Loss",
    "Model",
    "ModelConfig",
    "ModelFamily",
    "Monitor",
    "Norm",
    "Optimizer",
    "PassContext",
    "PassObserver",
    "RunInfo",
    "Scheduler",
    "Sink",
    "Stateful",
    "Text",
    "Tokenizer",
    "UpdateMeter",
    "Window",
    "chunk_rows",
    "stack_windows",
    "target_weights",
]

FloatArray = NDArray[Any]
IntArray = NDArray[Any]

#: How many windows ``Dataset.fingerprint`` reads.
FINGERPRINT_WINDOWS = 64


# --------------------------------------------------------------------------- memory of a part


class Stateful:
    """A part that may remember something from step to step, which a checkpoint then keeps.

    Both methods are optional; a part without memory writes neither.
    """

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON values; asked at every save."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state`` returned, before the first step of a resumed run.

        Only called with what a part of the same class returned.
        """


# --------------------------------------------------------------------------- layers, models


class Layer(ABC):
    """A sublayer of the residual stream: normalize, transform, drop out, add.

    ``forward`` and ``backward`` work in place on the stream and on its gradient. Every buffer
    they need is named by ``plan`` and handed in; they allocate none.
    """

    @abstractmethod
    def plan(self, shape: tuple[int, int]) -> Mapping[str, Buffer]:
        """Name the buffers for a pass of shape (B, T)."""

    @abstractmethod
    def forward(
        self,
        h_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        scratch: Mapping[str, FloatArray],
        ctx: PassContext,
    ) -> None:
        """Add this sublayer's output to ``h_NC`` and leave in ``saved`` what backward needs."""

    @abstractmethod
    def backward(
        self,
        dh_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        scratch: Mapping[str, FloatArray],
        ctx: PassContext,
    ) -> None:
        """Turn the gradient of the output into that of the input; accumulate parameters'."""

    def recompute(
        self,
        h_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        scratch: Mapping[str, FloatArray],
        ctx: PassContext,
    ) -> None:
        """Leave in ``saved`` what ``forward`` left, as the last layer of a recomputed block.

        Nothing reads the stream afterwards, so a layer may write this method to spare its last
        product. The base calls ``forward``, which is always right.
        """
        self.forward(h_NC, saved, scratch, ctx)

    def cache_plan(self, batch: int, context: int) -> Mapping[str, Buffer]:
        """Name what ``decode`` keeps of B sequences of up to ``context`` tokens; the base: nothing.

        The arrays begin as zeros. Their ``kind`` says nothing here.
        """
        return {}

    def fill_cache(
        self, cache: Mapping[str, FloatArray], saved: Mapping[str, FloatArray], time: int
    ) -> None:
        """Keep in ``cache`` what ``decode`` needs of a prompt of T tokens; the base: nothing.

        Called after each ``forward`` of a prompt, with what it has saved.

        Raises
        ------
        ConfigError
            By the base, if ``cache_plan`` names arrays that nobody would fill.
        """
        if cache:
            raise ConfigError(
                f"layer {type(self).__name__}: cache_plan() names {', '.join(cache)}, and there is "
                "no fill_cache() that fills them from a prompt. Write Layer.fill_cache"
            )

    def decode(self, h_BC: FloatArray, cache: Mapping[str, FloatArray], position: int) -> None:
        """Add this sublayer's output for one new token of each sequence, in place.

        Parameters
        ----------
        h_BC : ndarray of shape (B, C), IN/OUT
            The stream of the new tokens.
        cache : mapping of str to ndarray, IN/OUT
            The arrays of ``cache_plan``, with what earlier tokens left; this one's share is added.
        position : int
            How many tokens of the context came before.

        Raises
        ------
        ConfigError
            By the base: a layer that cannot decode is never passed over.
        """
        raise ConfigError(
            f"layer {type(self).__name__}: it has no decode(), so its model can write no text "
            "token by token. Write Layer.decode, or generate with a model that has it"
        )


class Norm(ABC):
    """A normalization of rows inside a sublayer. It alone knows the names of its buffers."""

    @abstractmethod
    def plan(self, rows: int, dtype: str, at_once: int | None = None) -> Mapping[str, Buffer]:
        """Name the buffers for N rows.

        Parameters
        ----------
        rows : int
        dtype : str
            Of what is saved.
        at_once : int, optional
            How many rows one call of ``backward`` gets; left out, all of them.
        """

    @abstractmethod
    def forward(
        self,
        h_NC: FloatArray,
        x_NC: FloatArray | None,
        y_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        rows: slice = slice(None),
    ) -> None:
        """Write the normalized rows to ``y_NC``, and to ``saved`` what ``backward`` needs.

        ``x_NC`` receives the stream as it is kept for backward; it is what is normalized.
        """

    @abstractmethod
    def apply(self, h_BC: FloatArray, y_BC: FloatArray) -> None:
        """Write the normalized rows to ``y_BC``, and keep nothing."""

    @abstractmethod
    def recompute(
        self,
        x_NC: FloatArray,
        y_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        rows: slice = slice(None),
    ) -> None:
        """Write the bits that ``forward`` wrote for these rows, from what it kept."""

    @abstractmethod
    def backward(
        self,
        dy_NC: FloatArray,
        x_NC: FloatArray,
        dres_NC: FloatArray | None,
        dx_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        scratch: Mapping[str, FloatArray],
        rows: slice = slice(None),
    ) -> None:
        """Write dx, with the residual's gradient ``dres_NC`` added; accumulate parameters'."""

    @abstractmethod
    def statistics(self, saved: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return those of the arrays that are the norm's: one number a row in each."""


class ModelConfig(Protocol):
    """The shape of a model: what its family builds it from."""

    @property
    def vocab_size(self) -> int:
        """V: the number of token ids."""

    @property
    def seq_len(self) -> int:
        """The longest T."""

    def values(self) -> dict[str, Any]:
        """Return every setting as plain JSON values, which ``ModelFamily.configure`` takes back."""


class Decoder(ABC):
    """B sequences that a model continues token by token."""

    @abstractmethod
    def prefill(self, tokens_BT: IntArray) -> FloatArray:
        """Start anew from prompts of one length and return the logits after them, (B, V)."""

    @property
    @abstractmethod
    def full(self) -> bool:
        """Whether the context has no room for another token."""

    @abstractmethod
    def step(self, ids_B: IntArray) -> FloatArray:
        """Append one token to each sequence and return the logits after it, of shape (B, V).

        Raises
        ------
        ShapeError
            If the context is full.
        """


class Model(Observed, ABC):
    """A language model: token ids in, logits out, gradients left in ``parameters``.

    A model that announces the parts of its passes (``tisslm.observation``) can be looked into.
    """

    parameters: Parameters

    #: Registered name of the family that builds this model again from ``config``; "" for a model
    #: that only the program that made it can build, whose checkpoints no command can load.
    family: ClassVar[str] = ""

    #: Whether passes keep the documents of a row apart (``Batch.start_BT``).
    takes_documents: ClassVar[bool] = False

    #: Whether ``decoder`` is written, so that the model can write text.
    writes_text: ClassVar[bool] = False

    #: The shape that the family builds it from; None if it has none.
    config: ModelConfig | None = None

    #: Key of the first values and of every random draw; None if the model has no such key.
    seed: int | None = None

    @property
    def dtype(self) -> str:
        """Element type of the parameters: "float32", or "float64" for a model on the twins."""
        return str(self.parameters.dtype)

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V: the number of token ids."""

    @property
    @abstractmethod
    def seq_len(self) -> int:
        """The longest T that the model takes."""

    def prepare(self, *, precision: str = "fp32", activation_checkpointing: str = "none") -> None:
        """Fix how later passes run; no parameter changes, and earlier caches are stale."""
        asked = {"precision": precision, "activation_checkpointing": activation_checkpointing}
        if asked != {"precision": "fp32", "activation_checkpointing": "none"}:
            name = f"{type(self).__name__} has no prepare() of its own"
            raise ConfigError(f'{name}: expected only the defaults "fp32", "none", got {asked}')

    @abstractmethod
    def forward(
        self, x: IntArray, *, train: bool = False, start: IntArray | None = None
    ) -> tuple[FloatArray, Any]:
        """Compute logits of shape (B, T, V) and the cache that ``backward`` needs.

        ``start``, of the shape of x, says where in its row the document of each token begins;
        None: a row is one document. The cache is good until the next forward; using a stale one
        is an error.
        """

    @abstractmethod
    def backward(self, d_logits: FloatArray, cache: Any) -> None:
        """Add the parameters' gradients, given the loss's gradient by the logits."""

    @abstractmethod
    def step_loss(
        self,
        batch: Batch,
        loss: Loss,
        *,
        gradient: bool = True,
        train: bool = True,
        first_row: int = 0,
    ) -> float:
        """Compute the batch's share of the loss, and the gradients, chunk by chunk.

        The same bits as ``forward``, ``loss.forward``, ``loss.backward`` and ``backward``, but
        the [B*T, V] logits are never stored.
        """

    @final
    def check_start(self, start: IntArray | None, shape: tuple[int, ...]) -> None:
        """Refuse starts of documents if passes take none, or if their shape is not the tokens'."""
        if start is None:
            return
        if not self.takes_documents:
            raise ConfigError(
                f"model {type(self).__name__}: it does not keep the documents of a row apart "
                "(takes_documents is False). Use data of one document per row, or a model that "
                "does, such as Transformer"
            )
        if getattr(start, "shape", None) != shape:
            got = getattr(start, "shape", type(start).__name__)
            raise ShapeError(
                f"start: expected an array of the tokens' shape {shape}, the position in its row "
                f"at which the document of each token begins, got {got}"
            )

    def plan(
        self,
        batch: int,
        time: int,
        *,
        precision: str | None = None,
        activation_checkpointing: str | None = None,
    ) -> Mapping[str, int]:
        """Return the bytes of every buffer of a pass of shape (B, T), by name.

        ``layers.<i>.<name>`` is kept by layer i until its backward; other names with a dot are
        scratch that layers share; names without one are the model's own. For passes as ``prepare``
        would fix them; left out, as it has. Nothing is made or changed. The default, nothing,
        leaves passes out of memory plans.
        """
        return {}

    @property
    def layer_names(self) -> Sequence[str]:
        """Name the layers that ``plan`` numbers, as their parameters are named; none by default."""
        return ()

    @property
    def n_head(self) -> int:
        """H: heads of attention in a block, for what monitors of attention take; 0 if none."""
        return 0

    @property
    def thread_scratch(self) -> int:
        """Bytes of the kernels' scratch, for all threads together, once a pass was run."""
        return 0

    def flops_per_token(self, time: int) -> int | None:
        """Count the operations of a training step per token of rows of T; None where unknown."""
        return None

    @property
    def cache_bytes(self) -> int:
        """Bytes that decoding one sequence of the longest T keeps; 0 where it keeps nothing."""
        return 0

    def decoder(self) -> Decoder:
        """Return a new decoder; a model that has one says ``writes_text = True``.

        Raises
        ------
        ConfigError
            By the base.
        """
        raise ConfigError(
            f"model {type(self).__name__}: it has no decoder() of its own, so it can write no "
            "text. Write Model.decoder, or generate with a model that has it, such as Transformer"
        )


class ModelFamily(ABC):
    """A family of models: which settings a model is built from, and how.

    It is what ``[model] family`` names, what a checkpoint is loaded by, and what a plan asks for
    shapes. A family is built without arguments, and keeps nothing.
    """

    #: Settings by preset's name.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @abstractmethod
    def configure(self, **values: Any) -> ModelConfig:
        """Return the shape that settings describe.

        The builder adds ``vocab_size`` from the tokenizer, 1 while it does not know it yet.

        Raises
        ------
        ConfigError
            For a setting that is unknown, missing or wrong.
        """

    @abstractmethod
    def parameters(self, config: Any) -> Iterable[ParameterSpec]:
        """Name every parameter of a model of this shape, one after another, and make none."""

    @abstractmethod
    def build(
        self,
        config: Any,
        *,
        seed: int = 42,
        dtype: str = "float32",
        parameters: Parameters | None = None,
    ) -> Model:
        """Return a model of this shape.

        Parameters
        ----------
        config : ModelConfig
            What ``configure`` returned.
        seed : int
        dtype : {"float32", "float64"}
        parameters : Parameters, optional
            Used as they are, in place of new ones with first values: those of a checkpoint, or
            shapes without memory, of which a plan is made.
        """

    @final
    def of_shapes(self, config: Any, dtype: str = "float32") -> Model:
        """Return a model without memory: the sizes and plans of the real one, and no passes."""
        from tisslm.memory import Parameters, ShapeArena

        shapes = Parameters(self.parameters(config), dtype, arena=ShapeArena)
        return self.build(config, dtype=dtype, parameters=shapes)

    def with_layers(self, config: Any, n_layer: int) -> ModelConfig | None:
        """Return the shape with another number of layers, of which a plan measures two.

        None, the default, if the family cannot tell; speed is then not foretold.
        """
        return None


class Loss(Stateful, ABC):
    """A loss over next-token logits, written once, for one tile of rows.

    A subclass writes ``tile``; ``forward`` and ``backward`` are given by this class. A loss
    that needs the hidden states instead sets ``needs = "hidden"`` and writes ``whole``.
    """

    needs: ClassVar[Literal["logits", "hidden"]] = "logits"

    _gradient: FloatArray | None = None

    def tile(
        self,
        logits_NV: FloatArray,
        targets_N: IntArray,
        weights_N: FloatArray,
        *,
        gradient: bool = True,
    ) -> FloatArray:
        """Compute each row's loss times its weight, and replace the logits by the gradient.

        Parameters
        ----------
        logits_NV : ndarray of shape (N, V), float32 or float64, C-contiguous
            With ``gradient``, overwritten by the gradient of the sum of the result; without,
            left as it is.
        targets_N : ndarray of shape (N,), int32
            -100 where there is no target.
        weights_N : ndarray of shape (N,), same dtype as the logits
            0 where there is no target. The result is linear in them.

        Returns
        -------
        losses_N : ndarray of shape (N,), same dtype as the logits
            May be an array that the loss keeps: it is good until the next call.
        """
        raise NotImplementedError(f"{type(self).__name__} must define tile()")

    def whole(self, hidden_BTC: FloatArray, batch: Batch) -> tuple[float, FloatArray]:
        """Compute the loss and its gradient by the hidden states (``needs = "hidden"``)."""
        raise NotImplementedError(f"{type(self).__name__} must define whole()")

    @final
    def forward(self, logits: FloatArray, targets: IntArray) -> float:
        """Compute the mean loss over the targets that are not -100.

        Parameters
        ----------
        logits : ndarray of shape (B, T, V) or (N, V)
            Left as it is; the gradient is built on a copy.
        targets : integer ndarray of shape (B, T) or (N,)

        Returns
        -------
        float
            In nats per target; 0.0 if there is no target.
        """
        if self.needs != "logits":
            raise ConfigError(
                f"loss {name_of(self)} works on hidden states, not on logits; "
                "use trainer.train_step instead of loss.forward"
            )
        if logits.shape[:-1] != targets.shape:
            raise ShapeError(
                f"loss: expected targets of shape {logits.shape[:-1]} for logits of shape "
                f"{logits.shape}, got {targets.shape}"
            )
        check_targets(targets)
        vocab = logits.shape[-1]
        grad_NV = np.array(logits, order="C").reshape(-1, vocab)
        targets_N = np.ascontiguousarray(targets.reshape(-1), dtype=np.int32)
        weights_N = target_weights(targets_N, grad_NV.dtype)
        rows = chunk_rows(vocab)
        total = 0.0
        for start in range(0, len(targets_N), rows):
            part = slice(start, start + rows)
            losses_N = self.tile(grad_NV[part], targets_N[part], weights_N[part])
            total += float(np.sum(losses_N, dtype=np.float64))
        self._gradient = grad_NV.reshape(logits.shape)
        return total

    @final
    def backward(self) -> FloatArray:
        """Return the gradient by the logits of the last ``forward``, with their shape."""
        if self._gradient is None:
            raise ShapeError("loss.backward: call loss.forward first")
        gradient, self._gradient = self._gradient, None
        return gradient


# --------------------------------------------------------------------------- optimization


class UpdateMeter(Protocol):
    """What measures how far an update moves the parameters, by sums that its kernels leave."""

    def part(self, group: ParameterGroup) -> FloatArray:
        """Return the array that the update of a group is to fill."""


class Optimizer(ABC):
    """A rule that turns gradients into an update of the parameters.

    A subclass takes ``(parameters, lr, **options)`` with keyword-only options, creates its
    state in ``__init__`` and writes ``update``. Registered classes list their state arrays in
    ``state``; the base saves nothing by itself. Options that ``tisslm.testing`` should try beside
    the defaults are the class attribute ``test_options``.

    Parameters
    ----------
    parameters : Parameters
    lr : float
        Learning rate, positive.
    """

    #: Whether ``update`` applies ``grad_scale`` itself (rounding g * scale to float32 first).
    takes_grad_scale: ClassVar[bool] = False

    #: Whether ``update`` fills ``movement`` where there is one; without it, a run lacks the ratio
    #: of its updates to its parameters.
    measures_movement: ClassVar[bool] = False

    #: Within ``update``: where it leaves how far it moves the parameters; what ``step`` was given.
    movement: UpdateMeter | None = None

    def __init__(self, parameters: Parameters, lr: float) -> None:
        self.parameters = parameters
        self._pending: tuple[float, Callable[[], bool] | None] = (1.0, None)
        self.set_lr(lr)
        self.base_lr = self.get_lr()

    @abstractmethod
    def update(self, grad_scale: float) -> None:
        """Apply one update: read the gradients, write the parameters, in one pass."""

    @final
    def step(self, movement: UpdateMeter | None = None) -> bool:
        """Apply the pending clip and one update; the gradients are left as they are.

        ``movement`` is filled by an optimizer that ``measures_movement``. Tells whether an update
        was made: none is if the pending check refuses the gradients.
        """
        (scale, admits), self._pending = self._pending, (1.0, None)
        if admits is not None and not admits():
            return False
        if scale != 1.0 and not self.takes_grad_scale:
            self.parameters.scale_grad(scale)
            scale = 1.0
        self.movement = movement
        try:
            self.update(scale)
        finally:
            self.movement = None
        self.parameters.updates += 1
        return True

    @final
    def scale_next_step(self, scale: float, admits: Callable[[], bool] | None = None) -> None:
        """Multiply the gradients of the next ``step`` by ``scale`` (gradient clipping).

        ``admits`` is asked first whether they may be applied: scaled ones may have overflowed. A
        second call replaces the first; ``zero_grad`` forgets it.
        """
        self._pending = float(scale), admits

    @final
    def zero_grad(self) -> None:
        """Mark the gradients as fresh: the next contribution overwrites them."""
        self._pending = 1.0, None
        self.parameters.zero_grad()

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next update."""
        try:
            rate = float(lr)
        except (TypeError, ValueError):
            rate = math.nan
        if not (math.isfinite(rate) and rate >= 0.0):
            raise ConfigError(f"learning rate: expected a finite number >= 0, got {lr!r}")
        self._lr = rate

    def get_lr(self) -> float:
        """Return the learning rate of the next update."""
        return self._lr

    def state(self) -> dict[str, FloatArray]:
        """Return every array that a resumed run needs: ``<parameter>/<slot>`` or ``<slot>``."""
        return {}

    def load_state(self, state: Mapping[str, FloatArray]) -> None:
        """Take back what ``state`` returned; names and shapes must be those of ``state()``."""
        own = self.state()
        if set(own) != set(state):
            missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
            raise CheckpointError(
                f"optimizer {name_of(self)}: the saved state does not fit; "
                f"missing {missing[:3]}, unexpected {extra[:3]}. Resume with the optimizer, "
                "the options and the model that the checkpoint was made with"
            )
        for name, array in own.items():
            found = state[name]
            if (array.shape, array.dtype) != (found.shape, found.dtype):
                raise CheckpointError(
                    f"optimizer state {name!r}: expected shape {array.shape} {array.dtype}, "
                    f"got {found.shape} {found.dtype}"
                )
        for name, array in own.items():
            array[...] = state[name]


class Scheduler(Stateful, ABC):
    """A learning rate as a pure function of the number of updates made.

    A subclass takes ``(optimizer, **options)`` and writes ``lr_at``; the learning rate that the
    optimizer had at the start is ``base_lr``. The constructor of a subclass must end with
    ``self.start()``, which applies ``lr_at(0)``.

    A scheduler with memory writes ``observe``, ``state`` and ``load_state``, too: its ``lr_at`` is
    a function of the step and of what it has observed.
    """

    #: Whether it is of no use without evaluations: a run that makes none is then refused.
    needs_evaluations: ClassVar[bool] = False

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.base_lr = optimizer.base_lr

    @abstractmethod
    def lr_at(self, step: int) -> float:
        """Return the learning rate of the update that follows ``step`` updates."""

    @final
    def start(self) -> None:
        """Apply ``lr_at(0)`` to the optimizer."""
        self.optimizer.set_lr(self.lr_at(0))

    @final
    def step(self, global_step: int) -> float:
        """After update number ``global_step`` (from 1): apply and return the next learning rate."""
        lr = float(self.lr_at(global_step))
        self.optimizer.set_lr(lr)
        return lr

    def get_lr(self) -> float:
        """Return the learning rate of the next update."""
        return self.optimizer.get_lr()

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Be told the metrics of an evaluation, if finite; ``step`` is called again after it."""


# --------------------------------------------------------------------------- data


class Dataset(Stateful, ABC):
    """Windows of ``seq_len`` inputs and targets, in an order that is a pure function.

    Attributes
    ----------
    seq_len : int
        T of every window.
    vocab_size : int
        Ids are in ``range(vocab_size)``.
    batch_size, seed : int or None
        What ``__iter__`` uses; the Trainer fills them in when they are None.
    epoch : int
        The epoch that the next ``__iter__`` delivers.
    """

    seq_len: int
    vocab_size: int
    batch_size: int | None = None
    seed: int | None = None
    epoch: int = 0

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of windows."""

    @abstractmethod
    def window(self, i: int) -> Window:
        """Return inputs and targets of window ``i``, int32 arrays of shape (T,).

        A third array, for every window or for none, is ``start_T``: where in the window the
        document of each token begins, so ``start_T[t]`` is t or ``start_T[t - 1]``, and 0 at 0.
        The model then keeps documents apart and counts positions from their beginnings; the target
        of a document's last token is -100, since what follows is not its next token.
        """

    @abstractmethod
    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """Return the keyed permutation of an epoch; indexing it takes constant time."""

    def batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Window]:
        """Yield batches without end, epoch after epoch, from batch number ``start`` on.

        The last batch of an epoch may be smaller; none is dropped. Starting at ``start``
        takes constant time. Each batch is in new arrays.

        Yields
        ------
        x_BT, y_BT : int32 arrays of shape (B, T)
            And ``start_BT``, where windows have it.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected an integer >= 1, got {batch_size}")
        per_epoch = -(-len(self) // batch_size)
        number = start
        while True:
            epoch, within = divmod(number, per_epoch)
            order = self.order(seed, epoch)
            for batch in range(within, per_epoch):
                first = batch * batch_size
                rows = range(first, min(first + batch_size, len(self)))
                yield stack_windows([self.window(order[row]) for row in rows])
                number += 1

    def stream(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Window]:
        """Yield what ``batches`` does, in arrays that may be written again: what training reads.

        A batch is good until the next but one is asked for; whoever keeps it longer copies it. The
        default makes new arrays, as ``batches`` does.
        """
        return self.batches(batch_size, seed, start)

    def fingerprint(self) -> str:
        """Return a short text by which a resumed run knows its data again.

        The default hashes the sizes and up to 64 windows, spread evenly, the first and the last
        among them: constant time, and another text does not go unnoticed. A change between those
        windows does; a dataset that has a checksum of all its tokens returns that.
        """
        digest = hashlib.sha256(f"{len(self)} {self.seq_len} {self.vocab_size}".encode())
        for place in range(FINGERPRINT_WINDOWS):
            number = place * (len(self) - 1) // (FINGERPRINT_WINDOWS - 1)
            for array in self.window(number):
                digest.update(np.ascontiguousarray(array, dtype="<i4").tobytes())
        return digest.hexdigest()[:16]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the data take, for memory plans; 0 where nobody counts them."""
        return 0

    def stream_bytes(self, batch_size: int) -> int:
        """Return the bytes of the arrays that a ``stream`` holds: two batches of int32.

        Of inputs and targets; a dataset whose windows have ``start_T`` says its own.
        """
        rows = min(batch_size, len(self))
        return 2 * 2 * rows * self.seq_len * np.dtype(np.int32).itemsize

    def __iter__(self) -> Iterator[Window]:
        """Yield the batches of one epoch in the Trainer's order; the next call, the next epoch."""
        if self.batch_size is None or self.seed is None:
            raise ConfigError(
                "dataset: batch_size and seed are not set; give them to the constructor, "
                "or build a Trainer with this dataset first"
            )
        epoch, self.epoch = self.epoch, self.epoch + 1
        per_epoch = -(-len(self) // self.batch_size)
        stream = self.batches(self.batch_size, self.seed, start=epoch * per_epoch)
        for _ in range(per_epoch):
            yield next(stream)


class Tokenizer(ABC):
    """A reversible map between text and token ids."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids: every id is in ``range(vocab_size)``."""

    @property
    def end_of_text(self) -> int | None:
        """The id that ends every document, None where the tokenizer has no such token."""
        return None

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Turn text into token ids."""

    def encode_array(self, text: str) -> IntArray:
        """Turn text into the same ids as ``encode``, as a one-dimensional integer array.

        What datasets call: a subclass may build the array, of any integer type, without the list.
        """
        return np.asarray(self.encode(text), dtype=np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[IntArray]:
        """Turn each text into ids as ``encode_array`` does; a subclass may use all cores."""
        return [self.encode_array(text) for text in texts]

    def count_bytes(self, ids: IntArray) -> int:
        """Count the bytes of UTF-8 that token ids stand for; that of a document's end counts none.

        Bits per byte are per these. The default decodes the ids, so half a character at either end
        counts as U+FFFD; a subclass that knows the bytes of each token overrides it.

        Parameters
        ----------
        ids : integer ndarray of shape (n,)
        """
        end = self.end_of_text
        kept = ids if end is None else ids[ids != end]
        return len(self.decode(kept.tolist()).encode("utf-8", "replace"))

    def find_cut(self, text: str, start: int) -> int:
        """Return the first place from ``start`` on at which a text may be cut, -1 if none is known.

        The ids of the two parts, one after another, are those of the whole, also if the text goes
        on: this is how a text larger than memory is encoded. A place is never 0 or the end.
        """
        return -1

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Turn token ids into text."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return plain JSON values from which ``from_state`` builds the same tokenizer."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any]) -> Tokenizer:
        """Build the tokenizer that ``state`` describes."""

    @classmethod
    def from_text(cls, text: str, **options: Any) -> Tokenizer:
        """Build the tokenizer for a training text; those that learn nothing ignore the text."""
        return cls(**options)

    @classmethod
    def from_texts(cls, texts: Iterable[str], **options: Any) -> Tokenizer:
        """Build the tokenizer for many training texts, read once and in order.

        The default joins them, or leaves them alone where ``from_text`` is not overridden; a
        tokenizer that learns overrides it to hold none of them long.
        """
        if getattr(cls.from_text, "__func__", None) is Tokenizer.from_text.__func__:  # type: ignore[attr-defined]
            return cls(**options)
        return cls.from_text("".join(texts), **options)


# --------------------------------------------------------------------------- observers


class Sink(Stateful, ABC):
    """A place that metrics are written to."""

    #: The kinds of value that the sink is given: ``float``, ``Histogram``, ``Text``.
    accepts: ClassVar[frozenset[type]] = frozenset({float})

    @abstractmethod
    def open(self, run: RunInfo) -> None:
        """Begin; the run directory exists."""

    @abstractmethod
    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Take the metrics of one step, by name."""

    def sync(self) -> None:
        """Wait until what was written is on disk: a checkpoint of these steps is about to be."""

    def close(self) -> None:
        """End; called once, also after an error."""


class Monitor(Stateful, ABC):
    """An observer of arrays during the pass; it sees read-only views and cannot change the run."""

    #: Of "activations", "attention", "gradients", "updates" and "weights".
    wants: ClassVar[frozenset[str]] = frozenset()

    def turn_to(self, kind: str) -> None:
        """Be told which of the kinds that it wants comes next (for monitors of several)."""

    @abstractmethod
    def observe(self, site: str, array: FloatArray) -> None:
        """Look at one array of floats; the view is valid for this call only.

        A site comes once for each parameter, and in pieces and micro-batches for each activation.
        """

    @abstractmethod
    def metrics(self) -> Mapping[str, object]:
        """Return what was found since the last call, by metric name."""


class Communicator(ABC):
    """The processes of a run and the sums they form together."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of processes."""

    @abstractmethod
    def sum_scalars(self, values: Sequence[float]) -> list[float]:
        """Add a few numbers over all ranks, in rank order; every rank gets the same result."""

    @abstractmethod
    def sum_gradients(self, flat_P: FloatArray) -> None:
        """Add a flat gradient over all ranks in place, in an order that depends on nothing else."""

    @abstractmethod
    def broadcast(self, flat: FloatArray) -> None:
        """Overwrite ``flat`` by rank 0's."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank is here."""
