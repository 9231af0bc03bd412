"""Rotary positions in both spellings: ``rope_theta`` and ``rope_scaling``, or ``rope_parameters``.

Files of 2023 to 2025 have the first, transformers 5 writes the second and reads both. Both are
written, so that every version finds its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tisslm.config.model import RopeScaling, TransformerConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.huggingface.configuration.source import Source

__all__ = ["Keys", "read", "write"]

_SCALING, _PARAMETERS = "rope_scaling", "rope_parameters"
_THETA, _FRACTION, _LENGTH = (
    "rope_theta",
    "partial_rotary_factor",
    "original_max_position_embeddings",
)
_DEFAULT_THETA = 1e4


@dataclass(frozen=True)
class Keys:
    """What a family calls theta and the share of channels, and which share it has by default."""

    theta: str
    fraction: str
    share: float


def read(source: Source, length: int, keys: Keys) -> dict[str, Any]:
    """Return the settings of rotary positions.

    Parameters
    ----------
    source : Source
    length : int
        The longest text, of which stretched positions may follow.
    keys : Keys
    """
    tables = {key: source.table(key) for key in (_SCALING, _PARAMETERS)}
    for key, table in tables.items():
        if any(isinstance(value, dict) for value in table.values()):
            source.refuse(key, "one table for all layers", "use a model that has one")
    theta = _number(source, tables, _THETA, keys.theta, _DEFAULT_THETA)
    fraction = _number(source, tables, _FRACTION, keys.fraction, keys.share)
    first = source.get(_LENGTH)
    found = [
        _scaling(source, key, table, length if first is None else first, length)
        for key, table in tables.items()
        if table
    ]
    if len(found) == 2 and found[0] != found[1]:
        source.refuse(_SCALING, f"what {_PARAMETERS} says, or no {_PARAMETERS}")
    return {
        "rope_theta": theta,
        "rotary_fraction": fraction,
        "rope_scaling": found[0] if found else None,
    }


def _number(
    source: Source, tables: Mapping[str, Mapping[str, Any]], name: str, key: str, default: float
) -> float:
    """Return a number that is the same wherever it stands.

    It may be in a table under its name, and beside the tables under its name or the family's:
    transformers 4 writes GPT-NeoX's share of channels under both.
    """
    found = {at: table[name] for at, table in tables.items() if table.get(name) is not None}
    for at, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            source.refuse(at, f"a number as its {name}")
    for at in {name: None, key: None}:
        if source.get(at) is not None:
            found[at] = source.number(at, default)
    if len(set(found.values())) > 1:
        source.refuse(next(iter(found)), f"one {name} in all places", "correct the wrong one")
    return float(next(iter(found.values()), default))


def _scaling(
    source: Source, key: str, table: Mapping[str, Any], first: Any, length: int
) -> dict[str, Any] | None:
    """Return how positions are stretched, every number said; None if they are not."""
    given = {name: value for name, value in table.items() if name not in (_THETA, _FRACTION)}
    kind = given.setdefault("rope_type", given.get("type", "default"))
    if kind in ("llama3", "yarn"):
        given.setdefault(_LENGTH, first)
    if kind == "yarn" and given.get("factor") is None and isinstance(given[_LENGTH], int):
        given["factor"] = length / max(1, given[_LENGTH])
    try:
        scaling = RopeScaling.parse(given, length).values()
    except ConfigError as error:
        reason = str(error).removeprefix("model.")
        raise CheckpointError(f"{source.where}: {key}: {reason}") from error
    return None if scaling["rope_type"] == "default" else scaling


def write(config: TransformerConfig, keys: Keys) -> dict[str, Any]:
    """Return the keys of a shape's rotary positions, in both spellings."""
    scaling = RopeScaling.parse(config.rope_scaling, config.seq_len).values()
    stretched = None if scaling["rope_type"] == "default" else scaling
    parameters = {**scaling, _THETA: config.rope_theta}
    found = {keys.theta: config.rope_theta}
    if keys.share != 1:
        parameters[_FRACTION] = found[keys.fraction] = config.rotary_fraction
    return {**found, _SCALING: stretched, _PARAMETERS: parameters}
