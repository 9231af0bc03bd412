"""The adapters of a model at the border: in PEFT's words where it has such, or in our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from tisslm.config import AdapterConfig
from tisslm.config.model import TransformerConfig
from tisslm.contracts import AdapterExchange
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.initialization import LORA_A, LORA_B
from tisslm.models.tuning.base import Base
from tisslm.models.tuning.peft import Peft, check_shapes, peft_targets
from tisslm.models.tuning.tuning import Tuning
from tisslm.system.safe_files import show

__all__ = ["OWN_KEYS", "TunedAdapters", "saved_adapter"]

Array = NDArray[Any]

#: Keys of ``base.json``.
OWN_KEYS = ("adapter", "base")


@final
class TunedAdapters(AdapterExchange):
    """The adapters of a shape.

    Parameters
    ----------
    shape : TransformerConfig
    adapter : AdapterConfig
    base : Base or None
        None for a base that is nowhere on the disk.
    """

    def __init__(self, shape: TransformerConfig, adapter: AdapterConfig, base: Base | None) -> None:
        self._adapter, self._base = adapter, base
        specs = Tuning(adapter=adapter).specs(shape)
        self._shapes = {s.name: s.shape for s in specs if s.name.endswith((LORA_A, LORA_B))}
        known = not shape.rescaled and set(adapter.targets) <= peft_targets(shape)
        self._peft = Peft(shape, adapter.targets) if known else None

    @property
    def base(self) -> Mapping[str, Any]:
        """The settings of the adapters, and the base with the SHA-256 of its files."""
        base = None if self._base is None else self._base.as_json()
        return {"adapter": self._adapter.model_dump(), "base": base}

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The content of ``adapter_config.json``."""
        if self._peft is None:
            return None
        return self._peft.configuration(
            self._adapter, None if self._base is None else self._base.path
        )

    def outward(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the adapters by the names there."""
        if self._peft is None:
            return {name: arrays[name] for name in self._shapes}
        return self._peft.outward(arrays)

    def inward(self, arrays: Mapping[str, Array], where: Path) -> Mapping[str, Array]:
        """Return adapters by our names."""
        found = arrays if self._peft is None else self._peft.inward(arrays, str(where))
        missing = sorted(set(self._shapes) ^ set(found))
        if missing:
            raise CheckpointError(
                f"{where}: expected the adapters of {', '.join(self._adapter.targets)} of every "
                f"block, got others: {show(missing[0])}; use the configuration they were made with"
            )
        check_shapes(found, self._shapes, str(where))
        return found

    def check(self, base: Mapping[str, Any], where: Path) -> None:
        """Compare a saved ``base`` with this one; dropout may be another."""
        saved, own = saved_adapter(base, where), self._adapter
        for key, value in own.model_dump(exclude={"dropout"}).items():
            found = getattr(saved, key)
            if found != value:
                raise CheckpointError(
                    f"{where}: made with adapter.{key} = {found!r:.200}, this run has {value!r}. "
                    "Use the configuration that the checkpoint was made with"
                )
        if base.get("base") is not None and self._base is not None:
            Base.load(base["base"], where).check(self._base, where)


def saved_adapter(base: Mapping[str, Any], where: Path) -> AdapterConfig:
    """Return the settings of adapters of a ``base.json``.

    Raises
    ------
    CheckpointError
        If they are none.
    """
    values = base.get("adapter")
    try:
        if not isinstance(values, Mapping):
            raise ConfigError(f"expected a table, got {show(values)}")
        return AdapterConfig(**values)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(
            f"{where}: no settings of adapters ({error}); it is damaged, use an earlier one"
        ) from error
