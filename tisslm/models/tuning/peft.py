"""Adapters in the files of PEFT: the names of its arrays, and its configuration, both ways.

There, each map has a module of its own, so an adapter of some rows of ours is one of a module of
theirs. Where a family has one module for several maps, as GPT-2 has, only an adapter of all of them
has a counterpart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.config import AdapterConfig
from tisslm.config.model import TransformerConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.huggingface.names import FAMILIES, Line
from tisslm.models.tuning.adapters import MODULES, adapter_names
from tisslm.system.safe_files import show
from tisslm.system.tensor_files import kind_of

__all__ = ["Peft", "adapter_of_peft", "check_shapes", "peft_targets"]

Array = NDArray[Any]

_BEFORE = "base_model.model."
_ENDS = (".lora_A.weight", ".lora_B.weight")

#: Keys of a configuration that change what is computed, with the values that change nothing.
_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "use_dora": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layer_replication": (None, []),
    "trainable_token_indices": (None,),
    "lora_bias": (False, None),
    "alora_invocation_tokens": (None,),
    "use_qalora": (False, None),
    "target_parameters": (None, []),
    "exclude_modules": (None, []),
}


@dataclass(frozen=True)
class _Place:
    """A target of ours, and the module there."""

    target: str
    line: Line

    def ours(self, block: int) -> tuple[str, str]:
        """Return the names of A and B here."""
        module, _ = MODULES[self.target]
        return adapter_names(f"blocks.{block}.{module}.weight", self.target)

    def theirs(self, prefix: str, block: int) -> tuple[str, str]:
        """Return the names of A and B there."""
        module = f"{_BEFORE}{prefix}{self.line.theirs.replace('{i}', str(block))}"
        return f"{module}{_ENDS[0]}", f"{module}{_ENDS[1]}"


def _places(config: TransformerConfig) -> Iterator[_Place]:
    """Yield every target that a model has there."""
    for line in FAMILIES[config.family].lines:
        for target, (module, block) in MODULES.items():
            fused = line.part in ("whole", "transposed", "by head")
            whole = not block or (target == "up" and not config.gated)
            if line.ours == f"blocks.{{i}}.{module}" and ((fused and whole) or line.part == block):
                yield _Place(target, line)


def peft_targets(config: TransformerConfig) -> frozenset[str]:
    """Return the targets of ours that are modules there."""
    return frozenset(place.target for place in _places(config))


class Peft:
    """The adapters of a model by the names there.

    Parameters
    ----------
    config : TransformerConfig
    targets : iterable of str
        All of which are modules there (``peft_targets``).
    """

    def __init__(self, config: TransformerConfig, targets: list[str]) -> None:
        self._config = config
        self._places = [place for place in _places(config) if place.target in targets]
        self._prefix = f"{FAMILIES[config.family].prefix}."

    def configuration(self, adapter: AdapterConfig, base: str | None) -> dict[str, Any]:
        """Return the content of ``adapter_config.json``; ``base`` is the path of the model."""
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "inference_mode": True,
            "init_lora_weights": True,
            "r": adapter.rank,
            "lora_alpha": _plain(adapter.alpha),
            "lora_dropout": adapter.dropout,
            "use_rslora": adapter.rslora,
            "target_modules": [self._module(place) for place in self._places],
            "fan_in_fan_out": any(place.line.part == "transposed" for place in self._places),
            "bias": "none",
            "modules_to_save": None,
        }

    def _module(self, place: _Place) -> str:
        """Return the shortest end of a module's name that is its own."""
        words = place.line.theirs.split(".")
        others = [line.theirs for line in FAMILIES[self._config.family].lines if line != place.line]
        for count in range(1, len(words)):
            end = ".".join(words[-count:])
            if not any(f".{other}".endswith(f".{end}") for other in others):
                return end
        return place.line.theirs

    def _pairs(self) -> Iterator[tuple[str, str, bool]]:
        """Yield our name and theirs of each array, and whether its rows are ordered by head."""
        for block in range(self._config.n_layer):
            for place in self._places:
                a, b = zip(place.ours(block), place.theirs(self._prefix, block), strict=True)
                yield *a, False
                yield *b, place.line.part == "by head"

    def outward(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Return adapters of ours by the names there."""
        found = {}
        for ours, theirs, by_head in self._pairs():
            array = arrays[ours]
            found[theirs] = self._by_head(array, 3, self._config.n_head) if by_head else array
        return found

    def inward(self, arrays: Mapping[str, Array], where: str) -> dict[str, Array]:
        """Return adapters from there by our names; a block may have none.

        Raises
        ------
        CheckpointError
            If an array is none of such adapters.
        """
        found, left = {}, set(arrays)
        for ours, theirs, by_head in self._pairs():
            if theirs in arrays:
                left.discard(theirs)
                array = arrays[theirs]
                found[ours] = self._by_head(array, self._config.n_head, 3) if by_head else array
        if left:
            raise CheckpointError(
                f"{where}: expected adapters of the maps of a {self._config.family} model of "
                f"{self._config.n_layer} layers, got {show(min(left))} besides; give it the model "
                "that they were trained for"
            )
        return found

    def _by_head(self, b: Array, outer: int, inner: int) -> Array:
        """Return rows in the other order: by query, key and value, or by head."""
        return np.ascontiguousarray(b.reshape(outer, inner, -1, b.shape[1]).swapaxes(0, 1)).reshape(
            b.shape
        )


def adapter_of_peft(
    values: Mapping[str, Any], arrays: Mapping[str, Array], config: TransformerConfig, where: str
) -> AdapterConfig:
    """Return what adapters a configuration and its arrays have.

    Parameters
    ----------
    values : mapping
        The content of ``adapter_config.json``.
    arrays : mapping of str to ndarray
        They say which modules have adapters; ``target_modules`` may be a pattern.
    config : TransformerConfig
        Of the base.
    where : str
        For messages.

    Raises
    ------
    CheckpointError
        If they are of another kind, or compute something that ours do not.
    """
    if values.get("peft_type") != "LORA":
        raise CheckpointError(
            f'{where}: peft_type: expected "LORA", got {show(values.get("peft_type"))}; merge it '
            "into its model there"
        )
    for key, nothing in _NOTHING.items():
        if values.get(key, nothing[0]) not in nothing:
            raise CheckpointError(
                f"{where}: {key}: expected {nothing[0]!r}, since adapters have no more than A and "
                f"B here, got {show(values[key])}; merge it into its model there"
            )
    own = Peft(config, sorted(peft_targets(config)))
    targets = {
        place.target
        for place in own._places
        for block in range(config.n_layer)
        if place.theirs(own._prefix, block)[0] in arrays
    }
    try:
        return AdapterConfig(
            rank=values.get("r", 8),
            alpha=values.get("lora_alpha", 8),
            dropout=values.get("lora_dropout", 0.0),
            rslora=values.get("use_rslora", False),
            targets=[target for target in MODULES if target in targets],
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}; download or save the adapters again") from error


def check_shapes(
    arrays: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Refuse adapters of other shapes than a model and a rank have.

    Raises
    ------
    CheckpointError
    """
    for name in arrays:
        shape = kind_of(arrays, name)[0]
        if shape != expected[name]:
            raise CheckpointError(
                f"{where}: expected {name} of shape {expected[name]}, by its configuration and its "
                f"base, got {shape}; the two are of different models"
            )


def _plain(value: float) -> float | int:
    """Return a whole number as PEFT has it."""
    return int(value) if math.isfinite(value) and value == int(value) else value
