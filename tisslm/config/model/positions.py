"""Which positions a shape has where nobody names them, and what then is left of rotary ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tisslm.config.model.presets import FAMILIES

__all__ = ["ROTARY", "positions_of", "without_rotary"]

#: Keys that say something of rotary positions alone.
ROTARY = ("rope_theta", "rotary_fraction", "rope_scaling")


def positions_of(family: object, given: Mapping[str, Any]) -> Any:
    """Return the positions that were given, that a key of rotary ones means, or the family's.

    Parameters
    ----------
    family : object
        Its name; what is no built-in family has those of GPT-2.
    given : mapping
        What was asked for, right or wrong.
    """
    if "positions" in given:
        return given["positions"]
    if not given.keys().isdisjoint(ROTARY):
        return "rotary"
    defaults = FAMILIES.get(family, {}) if isinstance(family, str) else {}
    return defaults.get("positions", "learned")


def without_rotary(defaults: Mapping[str, Any], positions: object) -> Mapping[str, Any]:
    """Return defaults, and with other positions than rotary ones nothing of these."""
    if positions == "rotary":
        return defaults
    return {key: value for key, value in defaults.items() if key not in ROTARY}
