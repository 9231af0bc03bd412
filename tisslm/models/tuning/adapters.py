"""Where adapters are put: beside which columns of which maps, by the names of targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from tisslm.config.model import TransformerConfig
from tisslm.config.sections import TARGETS, AdapterConfig
from tisslm.errors import ConfigError
from tisslm.memory import Parameter, Parameters, ParameterSpec
from tisslm.models.initialization import LORA_A, LORA_B
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.lora import Lora, LoraRoom

__all__ = ["MODULES", "Adapters", "adapter_names", "rows_of", "with_adapters"]

#: The map that each target is a part of, and the block of its rows; "" for all of them.
MODULES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "q": ("attention.qkv", "q"),
        "k": ("attention.qkv", "k"),
        "v": ("attention.qkv", "v"),
        "qkv": ("attention.qkv", ""),
        "o": ("attention.out", ""),
        "gate": ("mlp.up", "gate"),
        "up": ("mlp.up", "up"),
        "down": ("mlp.down", ""),
    }
)


def with_adapters(
    specs: Iterable[ParameterSpec], config: TransformerConfig, adapter: AdapterConfig
) -> list[ParameterSpec]:
    """Return specifications with those of adapters, each behind the map that it adapts.

    Raises
    ------
    ConfigError
        If the model has no such map, or the rank is above that of its matrix.
    """
    found: list[ParameterSpec] = []
    met = set()
    for spec in specs:
        found.append(spec)
        for target in adapter.targets:
            rows = rows_of(spec, target)
            if rows is not None:
                met.add(target)
                found += _pair(spec, target, rows, adapter.rank)
    for target in adapter.targets:
        if target not in met:
            raise ConfigError(
                f"adapter.targets: expected maps that a model of the family {config.family} with "
                f"activation {config.activation} has, got {target!r}; leave it out"
            )
    return found


def rows_of(spec: ParameterSpec | Parameter, target: str) -> slice | None:
    """Return the rows of a matrix that are a target, None if it is none."""
    module, block = MODULES[target]
    if not spec.name.endswith(f".{module}.weight"):
        return None
    blocks = spec.rows() if isinstance(spec, ParameterSpec) else spec.blocks
    whole = slice(0, spec.shape[0])
    if not block or (not blocks and target == "up"):  # an MLP without a gate
        return whole
    return blocks.get(block)


def adapter_names(matrix: str, target: str) -> tuple[str, str]:
    """Return the names of the two matrices of an adapter, given that of the weight it is beside."""
    place = f"{matrix.removesuffix('.weight')}.{target}"
    return f"{place}.{LORA_A}", f"{place}.{LORA_B}"


def _pair(spec: ParameterSpec, target: str, rows: slice, rank: int) -> Iterator[ParameterSpec]:
    outputs, inputs = rows.stop - rows.start, spec.shape[1]
    if rank > min(outputs, inputs):
        raise ConfigError(
            f"adapter.rank: expected at most {min(outputs, inputs)}, the smaller side of {target} "
            f"of {spec.name} ({outputs} x {inputs}), got {rank}; take a smaller rank"
        )
    of_a, of_b = adapter_names(spec.name, target)
    yield ParameterSpec(of_a, (rank, inputs))
    yield ParameterSpec(of_b, (outputs, rank))


class Adapters:
    """Builds the adapters of a model's maps, which share one room.

    Parameters
    ----------
    config : TransformerConfig
    adapter : AdapterConfig
    dtype : {"float32", "float64"}
        Of what is computed.
    """

    def __init__(self, config: TransformerConfig, adapter: AdapterConfig, dtype: str) -> None:
        self._config, self._adapter = config, adapter
        inner = config.n_head * config.head_dim
        widest = max(config.n_embd, inner, config.n_hidden)
        self.room = LoraRoom(adapter.rank, widest if adapter.dropout else 0, dtype)

    def of(self, name: str, parameters: Parameters) -> list[Lora]:
        """Return the adapters of a map, in the order of targets.

        Parameters
        ----------
        name : str
            What its parameters' names begin with.
        parameters : Parameters
        """
        weight, found = parameters[f"{name}.weight"], []
        for target in self._adapter.targets:
            rows = rows_of(weight, target)
            if rows is not None:
                a, b = (parameters[own] for own in adapter_names(weight.name, target))
                dropout = Dropout(self._adapter.dropout, self._site(name, target))
                scale = self._adapter.scale
                found.append(Lora(a, b, rows.start, scale, dropout, self.room))
        return found

    def _site(self, name: str, target: str) -> int:
        """Return the number of a site of dropout, behind those of the model."""
        block, targets = int(name.split(".")[1]), list(TARGETS)
        own = 1 + 3 * self._config.n_layer
        return own + len(targets) * block + targets.index(target)
