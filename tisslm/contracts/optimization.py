"""From logits to an update: losses, optimizers and schedules of the learning rate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts.batch import (
    Batch,
    check_targets,
    chunk_rows,
    target_weights,
)
from tisslm.contracts.part_names import name_of
from tisslm.errors import CheckpointError, ConfigError, ShapeError

if TYPE_CHECKING:
    from tisslm.memory import ParameterGroup, Parameters
    from tisslm.memory.shards import ParameterShard
from tisslm.contracts.stateful import Stateful

__all__ = [
    "Loss",
    "Optimizer",
    "Scheduler",
    "UpdateMeter",
]

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


class Loss(Stateful, ABC):
    """A loss over next-token logits, written once, for one tile of rows.

    A subclass writes ``tile``; ``forward`` and ``backward`` are given by this class. A loss
    that needs the hidden states instead sets ``needs = "hidden"`` and writes ``whole``.
    """

    needs: ClassVar[Literal["logits", "hidden"]] = "logits"
    #: Whether it tells how probable the targets are, so that a run has a ``train/perplexity``.
    has_perplexity: ClassVar[bool] = True

    _gradient: FloatArray | None = None

    def begin(self, batch: Batch) -> None:
        """Be told of a training pass before its tiles come, which do so in the order of its rows.

        An evaluation, which has a loss of its own, does not call it.
        """

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

    #: Whether each element's update follows from its own value, gradient and state alone. Several
    #: ranks then share out the elements, and ``parameters`` are flat pieces; without it, each rank
    #: has some parameters whole.
    elementwise: ClassVar[bool] = True

    #: Whether an update is as long for gradients a thousand times as large, as Adam's is: the rates
    #: of a model that ``wants_scale_free`` are for such optimizers alone.
    scale_free: ClassVar[bool] = False

    #: Whether parameters are evaluated and saved at an average of those that are trained; such an
    #: optimizer writes ``show_average``.
    has_average: ClassVar[bool] = False

    #: Whether the parameters are as they are evaluated and saved, and not as they are trained.
    shows_average: bool = True

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

    def show_average(self, shown: bool) -> None:  # noqa: B027 (most have one kind of parameters)
        """Give the parameters the values that are evaluated, or those that gradients are taken at.

        Asked only where ``has_average``, and where ``shows_average`` differs, which it sets. Both
        ways are exact: a run that evaluates has the bits of one that does not. States are saved and
        loaded while the average is shown.
        """

    def planned(self, parameters: Parameters | ParameterShard) -> Mapping[str, int] | None:
        """Return the bytes of each array that parameters of these shapes would take, by its name.

        Named like ``state``; what an update keeps beside it has names of its own. None where the
        state is all, and has so many numbers for each of its parameter.
        """
        return None

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

    #: The updates that the rates are spread over; None if they do not depend on an end.
    max_steps: int | None = None

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
