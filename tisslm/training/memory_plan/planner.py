"""The memory of a whole run, known before any of it is taken, and whether it fits.

The model may be one of shapes (``Transformer.of_shapes``). ``tisslm.system.memory_limit`` tells how
much memory there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tisslm import ops
from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset, Encoder, Monitor, Network
from tisslm.errors import ConfigError
from tisslm.optim.update_norm import Movement
from tisslm.registry import Registry
from tisslm.system.memory_limit import MemoryLimit, resolve_limit
from tisslm.system.quantities import size_text
from tisslm.tracking.monitoring import wants_of
from tisslm.training.gradients.target_weights import TargetWeights
from tisslm.training.memory_plan.items import (
    Item,
    MemoryPlan,
    all_monitors,
    average_items,
    copy_items,
    monitor_items,
    optimizer_items,
    parameter_items,
    pass_items,
    sampling_items,
)
from tisslm.training.memory_plan.passes import Passes
from tisslm.training.memory_plan.ranks import RankPlan, waiting_item
from tisslm.training.memory_plan.texts import PAIR_BYTES, packed_texts, vector_items
from tisslm.training.ranks.layout import needs_whole
from tisslm.training.ranks.reduction import waiting_arrays
from tisslm.training.ranks.share import for_ranks, share_of

__all__ = ["CHECKPOINTING", "Planner", "RunPlan", "fit_memory", "settle"]

#: Settings of activation checkpointing, the one that recomputes least first.
CHECKPOINTING = ("none", "every=8", "every=4", "every=3", "every=2", "full")


class RunPlan(NamedTuple):
    """What is settled before a run takes any memory.

    Attributes
    ----------
    passes : Passes
        How passes are run; the model is still to be told.
    nbytes : int
        Bytes that the run is planned to take, beyond the interpreter and its libraries.
    imports : int
        Bytes that the interpreter and its libraries held when the run was planned.
    time : int
        T of a training pass.
    monitors : tuple of Monitor
        All monitors of the run, built.
    """

    passes: Passes
    nbytes: int
    imports: int
    time: int
    monitors: tuple[Monitor, ...]


class Planner:
    """Plans of one run under several batch sizes and ways to run a pass.

    It asks, and changes nothing.

    Parameters
    ----------
    model : Network
        A model with memory or one of shapes.
    config : TrainingConfig
    optimizer : str, (str, dict) or Optimizer
    registry : Registry
    datasets : iterable of Dataset or None
        Training data first.
    precision : {"fp32", "bf16", "fp16"}
    monitors : iterable of parts
        Those that were asked for, without those that the configuration adds.
    ranks : int
        Number of ranks; a plan of several is that of a rank that has the most of everything.
    averages : bool
        Whether the run averages its weights.
    beside : callable, optional
        Given B and T of a pass, what a run takes for something that the planner does not know.

    Attributes
    ----------
    ranks : RankPlan or None
        What several ranks share out; None for one rank.
    monitors : tuple of Monitor
        All monitors of the run; they are built, since only an object tells what it wants.
    """

    def __init__(
        self,
        model: Network,
        config: TrainingConfig,
        optimizer: object,
        registry: Registry,
        *,
        datasets: Iterable[Dataset | None] = (),
        precision: str = "fp32",
        monitors: Iterable[object] = (),
        ranks: int = 1,
        averages: bool = False,
        beside: Callable[[int, int], Iterable[Item]] | None = None,
    ) -> None:
        config = for_ranks(config, ranks)
        shaped = ranks > 1 and needs_whole(registry, optimizer)
        self.ranks = RankPlan(model, config, ranks, shaped=shaped) if ranks > 1 else None
        named = all_monitors(monitors, config)
        self.monitors: tuple[Monitor, ...] = tuple(registry.build("monitor", m) for m in named)
        self.model = model
        self.config = config
        self.precision = precision
        self.datasets = [dataset for dataset in datasets if dataset is not None]
        self._texts = packed_texts(model, self.datasets)
        self._beside = beside
        state = list(optimizer_items(model, config, optimizer, registry))  # rank 0 saves all of it
        averaged = list(average_items(model)) if averages else []
        shard = None if self.ranks is None else self.ranks.shard
        self._fixed = [
            *parameter_items(model),
            *self._of_ranks(state, optimizer, registry),
            *(average_items(model, shard) if averages else ()),
            *(copy_items(model, [*state, *averaged]) if config.async_save else ()),
            *(sampling_items(model) if config.sample_every else ()),
            *(Item("data", "", d.nbytes, True) for d in self.datasets),
            Item("thread scratch", "", model.thread_scratch),
            Item("thread scratch", "", ops.norm_parts_bytes(model.parameters.data.size)),
            Item("thread scratch", "", Movement.planned(model.parameters)),
        ]

    def _of_ranks(
        self, state: Sequence[Item], optimizer: object, registry: Registry
    ) -> Iterator[Item]:
        """Yield what of the optimizer's state is here, and what comes of an update in parts."""
        if self.ranks is not None:
            yield from optimizer_items(
                self.model, self.config, optimizer, registry, self.ranks.shard
            )
            yield from self.ranks.items(state)
            return
        yield from state
        if self.config.reduction_parts is not None:
            waiting = waiting_arrays(share_of(self.config, 0, 1))
            yield waiting_item(self.model.parameters.data.nbytes, waiting)

    @property
    def time(self) -> int:
        """T of a training pass; rows that are packed are filled with several texts."""
        if self._texts is not None:
            return self.model.seq_len
        known = [dataset.seq_len for dataset in self.datasets if dataset.seq_len]
        return max(known, default=self.model.seq_len)

    def plan(self, checkpointing: str = "none", batch_size: int | None = None) -> MemoryPlan:
        """Plan the run.

        Parameters
        ----------
        checkpointing : str
            One of ``CHECKPOINTING``, or any ``every=N``.
        batch_size : int, optional
            Rows of a micro-batch; left out, the configuration's.

        Raises
        ------
        ConfigError
            If the model cannot run its passes so.
        """
        batch = self.config.batch_size if batch_size is None else batch_size
        rows = self._pass_rows(batch)
        sizes = self._pass_sizes(Passes(self.precision, checkpointing), rows)
        passes = pass_items(self.model, sizes)
        wants = wants_of(self.monitors)
        seen = monitor_items(self.model, wants, rows, self.time, self.precision)
        beside = () if self._beside is None else self._beside(rows, self.time)
        return MemoryPlan((*self._fixed, *passes, *seen, *self._batches(batch), *beside))

    def _pass_rows(self, batch: int) -> int:
        """B of a training pass; where texts are packed, the most that a micro-batch may take."""
        return batch if self._texts is None else self._texts.rows(batch)

    def _pass_sizes(self, passes: Passes, batch: int) -> Mapping[str, int]:
        """Ask the model for the buffers of a pass; one that is not prepared has one way only."""
        model = self.model
        if type(model).prepare is not Network.prepare:
            return model.plan(batch, self.time, **passes._asdict())
        model.prepare(**passes._asdict())  # the contract's own: refuses all but the defaults
        return model.plan(batch, self.time)

    def _batches(self, batch: int) -> Iterator[Item]:
        ranks = self.ranks
        passes = self.config.micro_batches_per_update if ranks is None else ranks.micro_batches
        rows = batch * passes
        if self._texts is None:
            yield Item("batches", "", TargetWeights.planned(rows, batch, self.time))
        elif isinstance(self.model, Encoder):
            n_texts = self._texts.n_texts
            yield from vector_items(self.model, n_texts, rows, self.config.rows_per_update)
        else:
            yield Item("batches", "", PAIR_BYTES * self._pass_rows(batch) * self.time)
        for dataset in self.datasets[:1]:
            read = rows if ranks is None else ranks.read_rows(dataset) * batch // ranks.batch_size
            yield Item("batches", "", dataset.stream_bytes(read))

    def alternatives(self) -> dict[str, MemoryPlan]:
        """Return the plan of each setting of activation checkpointing that the model takes."""
        found = {}
        for checkpointing in CHECKPOINTING:
            try:
                found[checkpointing] = self.plan(checkpointing)
            except ConfigError:  # a model without it
                continue
        return found


def fit_memory(planner: Planner) -> str:
    """Check that a run fits ``training.memory_limit``, before it takes anything.

    Parameters
    ----------
    planner : Planner

    Returns
    -------
    str
        The activation checkpointing of the run: its setting, or for "auto" the first of
        ``CHECKPOINTING`` that fits.

    Raises
    ------
    ConfigError
        If it does not fit; the message has the plan and what would.
    """
    return _first_that_fits(planner)[0]


def settle(planner: Planner) -> RunPlan:
    """Settle how the passes of a run are made, and check that it fits its memory.

    Parameters and errors are those of ``fit_memory``.
    """
    checkpointing, plan = _first_that_fits(planner)
    passes = Passes(planner.precision, checkpointing)
    return RunPlan(passes, plan.total, plan.imports, planner.time, planner.monitors)


def _first_that_fits(planner: Planner) -> tuple[str, MemoryPlan]:
    limit = resolve_limit(planner.config.memory_limit)
    wanted = planner.config.activation_checkpointing
    plans = planner.alternatives() if wanted == "auto" else {wanted: planner.plan(wanted)}
    for checkpointing, plan in plans.items():
        if plan.remaining <= limit.nbytes:
            return checkpointing, plan
    last = list(plans)[-1]
    raise ConfigError(_refusal(planner, last, plans[last], limit))


def _refusal(planner: Planner, checkpointing: str, plan: MemoryPlan, limit: MemoryLimit) -> str:
    taken = plan.total - plan.remaining
    already = f", {size_text(taken)} of which are there already" if taken else ""
    return (
        f"training.memory_limit: the run needs {size_text(plan.total)}{already} "
        f"({plan.sentence()}), but may take {size_text(limit.nbytes)} ({limit.source}); "
        f"{_advice(planner, checkpointing, limit)}"
    )


def _advice(planner: Planner, checkpointing: str, limit: MemoryLimit) -> str:
    """Say what would fit."""
    kept = planner.alternatives()
    fits = [name for name, plan in kept.items() if plan.remaining <= limit.nbytes]
    ways = [f"training.activation_checkpointing = {name!r}" for name in fits[:1]]
    batch = planner.config.batch_size // 2
    while batch and planner.plan(checkpointing, batch).remaining > limit.nbytes:
        batch //= 2
    if batch:
        ways.append(f"training.batch_size = {batch} with more gradient_accumulation_steps")
    if ways:
        return f"this would fit: {', or '.join(ways)}"
    return "no batch size would fit: choose a smaller model or a machine with more memory"
