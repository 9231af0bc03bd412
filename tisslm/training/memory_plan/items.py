"""A memory plan, and the items that each part of a run adds to it.

The size of each item is asked of the code that will take the memory: the model's parameters, its
``plan``, the optimizer's ``state``. ``planner`` puts the plan of a whole run together.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tisslm.config import TrainingConfig
from tisslm.contracts import Model, Network, Optimizer
from tisslm.memory import Parameters, ParameterSpec
from tisslm.memory.copies import copy_bytes
from tisslm.memory.shards import ParameterShard
from tisslm.optim.weight_average import WeightAverage
from tisslm.registry import Registry
from tisslm.system.memory_limit import resident
from tisslm.system.quantities import size_text
from tisslm.tracking.pass_arrays import planned_room
from tisslm.training.snapshot import owners

__all__ = [
    "FAMILIES",
    "RANK_FAMILIES",
    "Item",
    "MemoryPlan",
    "all_monitors",
    "average_items",
    "copy_items",
    "monitor_items",
    "optimizer_items",
    "parameter_items",
    "pass_items",
    "sampling_items",
]

#: The purposes of memory, in the order of tables. Where a model lets the chunk of logits and the
#: layers' scratch share bytes, all of that is "scratch".
FAMILIES = (
    "parameters",
    "gradients",
    "optimizer state",
    "checkpoint copy",
    "activations",
    "stream",
    "logits",
    "scratch",
    "thread scratch",
    "monitors",
    "data",
    "batches",
)

#: The purpose that only runs have that average their weights.
AVERAGE = "weight average"

#: The purposes that only several ranks have, or an update in parts (``training.reduction_parts``).
RANK_FAMILIES = ("shard copies", "waiting sums", "received pieces", "checkpoint gathering")

#: Largest dimension of the small parameters that an optimizer is tried on, twice.
SMALL = (8, 16)


@dataclass(frozen=True)
class Item:
    """One part of a plan.

    Attributes
    ----------
    family : str
        One of ``FAMILIES`` or ``RANK_FAMILIES``, or ``AVERAGE``.
    layer : str
        Where in the model, such as ``blocks.0.mlp``; "" for what belongs to no layer.
    nbytes : int
    exists : bool
        Whether the memory was taken already.
    """

    family: str
    layer: str
    nbytes: int
    exists: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """What a run keeps resident at its peak, beyond the interpreter and its libraries.

    ``imports`` measures these, so that the sum can be compared with the memory of the process.
    """

    items: tuple[Item, ...]

    @property
    def total(self) -> int:
        """Bytes of the whole run."""
        return sum(item.nbytes for item in self.items)

    @property
    def remaining(self) -> int:
        """Bytes that are still to be taken."""
        return sum(item.nbytes for item in self.items if not item.exists)

    @property
    def imports(self) -> int:
        """Bytes that the process holds now beyond what of the plan is there: its imports."""
        return max(0, resident() - (self.total - self.remaining))

    @property
    def by_family(self) -> dict[str, int]:
        """Bytes of each family; all of ``FAMILIES`` are named, and those of ranks where any are."""
        found = dict.fromkeys(FAMILIES, 0)
        for item in self.items:
            found[item.family] = found.get(item.family, 0) + item.nbytes
        return found

    @property
    def by_layer(self) -> dict[str, dict[str, int]]:
        """Bytes of each family in each layer, in the order of the model."""
        found: dict[str, dict[str, int]] = {}
        for item in self.items:
            if item.layer:
                row = found.setdefault(item.layer, {})
                row[item.family] = row.get(item.family, 0) + item.nbytes
        return found

    def sentence(self) -> str:
        """Name the families that are not empty, the largest first."""
        sizes = sorted(self.by_family.items(), key=lambda pair: -pair[1])
        return ", ".join(f"{name} {size_text(n)}" for name, n in sizes if n)


def _layer_of(name: str, layers: Container[str]) -> str:
    """Return the layer that a parameter belongs to: a name of the model's, or its first word."""
    prefix = name
    while prefix:
        prefix = prefix.rpartition(".")[0]
        if prefix in layers:
            return prefix
    return name.partition(".")[0]


def parameter_items(model: Network) -> Iterator[Item]:
    """Yield what parameters and gradients take, layer by layer."""
    parameters, layers = model.parameters, frozenset(model.layer_names)
    exists = parameters.has_memory
    named = 0
    for p in parameters:
        layer, nbytes = _layer_of(p.name, layers), p.data.nbytes
        yield Item("parameters", layer, nbytes, exists)
        if p.trainable:
            named += nbytes
            yield Item("gradients", layer, nbytes, exists)
    padding = parameters.data.nbytes - named
    yield Item("parameters", "", padding, exists)
    yield Item("gradients", "", padding, exists)


def pass_items(model: Network, sizes: Mapping[str, int]) -> Iterator[Item]:
    """Sort the buffers of a pass by the form of their names, as ``Network.plan`` says."""
    layers = model.layer_names
    for name, nbytes in sizes.items():
        first, _, rest = name.partition(".")
        if first == "layers":
            i = int(rest.partition(".")[0])
            layer = layers[i] if i < len(layers) else f"layers.{i}"
            yield Item("activations", layer, nbytes)
        elif rest:
            yield Item("scratch", "", nbytes)
        else:
            yield Item("logits" if name == "logits" else "stream", "", nbytes)


def optimizer_items(
    model: Network,
    config: TrainingConfig,
    optimizer: object,
    registry: Registry,
    shard: ParameterShard | None = None,
) -> Iterator[Item]:
    """Plan the state: measured on an object, asked of one, or measured on two small models.

    An optimizer that does not say what it takes (``planned``) has state that grows with the numbers
    of its parameter, or of all parameters when its name has none.

    Parameters
    ----------
    model : Network
    config : TrainingConfig
    optimizer : str, (str, dict) or Optimizer
    registry : Registry
    shard : ParameterShard, optional
        What the optimizer updates, if that is not all: only a name's state can be planned then.
    """
    layers = frozenset(model.layer_names)
    if isinstance(optimizer, Optimizer):
        state = {name: array.nbytes for name, array in optimizer.state().items()}
        sizes = {**(optimizer.planned(model.parameters) or {}), **state}
        yield from _said_items(sizes, state, layers, exists=True)
        return
    made = _small_optimizer(model, SMALL[0], config, optimizer, registry)
    said = made.planned(model.parameters if shard is None else shard)
    if said is not None:
        yield from _said_items(said, made.state(), layers, exists=False)
        return
    if shard is None:
        sizes = {p.name: p.data.size for p in model.parameters if p.trainable}
        sizes[""] = model.parameters.data.size
    else:
        sizes = {piece.name: piece.data.size for piece in shard}
        sizes[""] = shard.data.size
    larger = _small_optimizer(model, SMALL[1], config, optimizer, registry)
    less, more = _state_sizes(made), _state_sizes(larger)
    for owner, (count, nbytes) in more.items():
        if owner not in sizes:  # none of it is in the shard
            continue
        fewer, before = less.get(owner, (count, nbytes))
        grown = (nbytes - before) / (count - fewer) if count > fewer else 0.0
        whole = round(nbytes + grown * (sizes[owner] - count))
        yield Item("optimizer state", owner and _layer_of(owner, layers), whole)


def _said_items(
    sizes: Mapping[str, int], state: Container[str], layers: Container[str], *, exists: bool
) -> Iterator[Item]:
    """Yield the arrays of an optimizer; what is no state is scratch, and in no checkpoint."""
    for name, nbytes in sizes.items():
        owner = name.rpartition("/")[0]
        kept = bool(owner) or name in state
        family, layer = "optimizer state" if kept else "scratch", owner and _layer_of(owner, layers)
        yield Item(family, layer, nbytes, exists)


def average_items(model: Network, shard: ParameterShard | None = None) -> Iterator[Item]:
    """Yield what the average of the weights takes, and what it is exchanged through.

    Parameters
    ----------
    model : Network
    shard : ParameterShard, optional
        What is averaged here, if that is not all.
    """
    averaged = model.parameters if shard is None else shard
    yield Item(AVERAGE, "", averaged.data.nbytes)
    yield Item("scratch", "", WeightAverage.planned(averaged) - averaged.data.nbytes)


def copy_items(model: Network, state: Iterable[Item]) -> Iterator[Item]:
    """Yield what a copy of a checkpoint takes (``training.async_save``).

    Parameters
    ----------
    model : Network
    state : iterable of Item
        The items of the optimizer's state, and of the average of the weights.
    """
    kept = ("optimizer state", AVERAGE)
    slots = [item.nbytes for item in state if item.family in kept]
    sizes = (n for owner in owners.OWNERS for n in owner.planned(model.parameters, slots))
    yield Item("checkpoint copy", "", copy_bytes(sizes))


def sampling_items(model: Network) -> Iterator[Item]:
    """Yield what samples on the way take: the keys and values of one sequence."""
    if isinstance(model, Model) and model.cache_bytes:
        yield Item("scratch", "", model.cache_bytes)


def all_monitors(given: Iterable[object], config: TrainingConfig) -> list[object]:
    """Return the monitors of a run as they are named: those given, and what settings ask for."""
    found = list(given)
    named = [spec if isinstance(spec, str) else _name_of(spec) for spec in found]
    if config.log_gradients and "gradient_norms" not in named:
        found.append("gradient_norms")
    return found


def _name_of(spec: object) -> object:
    """Return the name in a pair of name and options, None of anything else."""
    return spec[0] if isinstance(spec, tuple | list) and spec else getattr(spec, "name", None)


def monitor_items(
    model: Network, wants: Collection[str], batch: int, time: int, precision: str
) -> Iterator[Item]:
    """Yield what monitors of these wants take beyond the arrays that they look at."""
    for nbytes in planned_room(wants, model, batch, time, precision).values():
        yield Item("monitors", "", nbytes)


def _small_optimizer(
    model: Network, largest: int, config: TrainingConfig, optimizer: object, registry: Registry
) -> Optimizer:
    """Build an optimizer for the parameters of a model of which no dimension is larger."""
    small = Parameters(
        ParameterSpec(
            p.name,
            tuple(min(n, largest) for n in p.shape),
            p.decay,
            p.lr_scale,
            p.weight_decay,
            p.trainable,
        )
        for p in model.parameters
    )
    made: Optimizer = registry.build("optimizer", optimizer, small, config.learning_rate)
    return made


def _state_sizes(made: Optimizer) -> Mapping[str, tuple[int, int]]:
    """Return (numbers, bytes of state) of each parameter, "" for all of them."""
    counts = {p.name: int(np.prod(p.shape)) for p in made.parameters}
    found: dict[str, tuple[int, int]] = {}
    for name, array in made.state().items():
        owner = name.rpartition("/")[0]
        owner = owner if owner in counts else ""
        count = counts.get(owner, made.parameters.data.size)
        found[owner] = (count, found.get(owner, (0, 0))[1] + array.nbytes)
    return found
