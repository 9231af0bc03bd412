"""The parts of a run, as one record: what the engine is handed, and what a checkpoint describes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tisslm.config import TrainingConfig
from tisslm.contracts import (
    AnyLoss,
    Communicator,
    Dataset,
    Loss,
    Monitor,
    Network,
    Optimizer,
    Scheduler,
    Stateful,
    Tokenizer,
)
from tisslm.contracts.part_names import name_of
from tisslm.errors import ConfigError
from tisslm.optim.loss_scaling import LossScaler
from tisslm.optim.weight_average import WeightAverage
from tisslm.tracking.own_metrics import OwnMetrics
from tisslm.tracking.sink_group import SinkGroup
from tisslm.training.gradients.reference import Reference
from tisslm.training.interruption import Leave
from tisslm.training.ranks.reduction import Reduction

__all__ = ["Components", "describe"]


@dataclass(frozen=True)
class Components:
    """Every part of a run.

    Attributes
    ----------
    validation_loss : Loss
        Cross-entropy, whatever the training loss is, so that runs can be compared.
    monitors : list of Monitor
        Those that raise are removed from it.
    dataset, val_dataset, tokenizer
        None where the run has none.
    scaler : LossScaler
        Its scale is 1 unless the precision is fp16.
    own : OwnMetrics
        What parts measure of themselves.
    reduction : Reduction
        What adds up the gradients of an update, and has what the optimizer updates.
    average : WeightAverage or None
        The running mean of the weights.
    reference : Reference or None
        What preferences are compared with; None for a loss that needs none.
    """

    model: Network
    optimizer: Optimizer
    scheduler: Scheduler
    loss: AnyLoss
    validation_loss: Loss
    communicator: Communicator
    monitors: list[Monitor]
    sinks: SinkGroup
    dataset: Dataset | None
    val_dataset: Dataset | None
    tokenizer: Tokenizer | None
    scaler: LossScaler
    own: OwnMetrics
    reduction: Reduction
    average: WeightAverage | None = None
    reference: Reference | None = None

    def show(self, *, average: bool) -> None:
        """Give the parameters of all ranks the values that are evaluated, or those to be trained.

        Few optimizers have both; whoever needs one kind asks for it, and nothing is done where it
        is there.
        """
        if self.optimizer.has_average and self.optimizer.shows_average != average:
            self.reduction.reread()
            self.optimizer.show_average(average)
            self.reduction.publish()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the average of the weights in place of them, on all ranks, for a while.

        The weights come back exactly, also if an error ends it; of several
        ranks, unless that is one rank's own, which ends the run.
        """
        self._swap()
        try:
            yield
        except BaseException as error:
            if self.communicator.size == 1 or isinstance(error, Leave):
                self._swap()
            raise
        self._swap()

    def follow(self) -> None:
        """Have the average be the weights as they are, before the first averaging.

        Raises
        ------
        ConfigError
            If the run averages nothing.
        """
        if self.average is None:
            raise ConfigError(
                "averaged weights: expected a run that averages them, got one without; give the "
                "Trainer ema=EmaConfig(), or the run a section [ema]"
            )
        if not self.average.count:
            self.reduction.reread()
            self.average.follow()

    def _swap(self) -> None:
        self.follow()
        self.reduction.reread()
        if self.average is not None:
            self.average.swap()
        self.reduction.publish()

    def stateful(self) -> Iterator[tuple[str, str, Stateful]]:
        """Yield key, name and part of each part that may keep a state from step to step.

        Optimizer and scheduler are not among them: every run has their states. Keys are the same
        whenever the same parts are given in the same order: they have the name of the class, which
        a part has however it was given. Names are for messages.
        """
        parts: list[tuple[str, Stateful | None]] = [
            ("loss", self.loss),
            ("dataset", self.dataset),
            ("validation dataset", self.val_dataset),
            *(("monitor", monitor) for monitor in self.monitors),
            *(("sink", sink) for sink in self.sinks),
        ]
        seen: dict[str, int] = {}
        for kind, part in parts:
            if part is not None:
                key = f"{kind} {type(part).__name__}"
                seen[key] = seen.get(key, 0) + 1
                number = f" {seen[key]}" if seen[key] > 1 else ""
                yield f"{key}{number}", f"{kind} {name_of(part)}{number}", part


def describe(config: TrainingConfig, parts: Components) -> dict[str, Any]:
    """Describe a run that was composed in Python as far as names and values go.

    Parameters
    ----------
    config : TrainingConfig
    parts : Components

    Returns
    -------
    dict
        Nested tables of plain values, as a configuration file has them.
    """
    found: dict[str, Any] = {"training": config.model_dump(exclude_none=True)}
    shape = parts.model.settings()
    if shape:
        found["model"] = {key: value for key, value in shape.items() if value is not None}
    named = {"optimizer": parts.optimizer, "scheduler": parts.scheduler, "loss": parts.loss}
    for name, part in named.items():
        found[name] = named_options(part)
    if parts.average is not None:
        found["ema"] = parts.average.config.model_dump()
    return found


def named_options(part: object) -> dict[str, Any]:
    """Return a part's name and what it shows of its options: attributes that are plain values."""
    plain = {k: v for k, v in vars(part).items() if isinstance(v, (bool, int, float, str))}
    return {"name": name_of(part), **{k: v for k, v in plain.items() if not k.startswith("_")}}
