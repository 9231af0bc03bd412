"""The sizes of a preset, adapted to those that were given beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tisslm.config.model.presets import FAMILIES, FAMILY

__all__ = ["ROTARY", "adapted", "without_rotary"]

#: Keys of rotary positions alone; one of them makes positions rotary where nothing else is said.
ROTARY = frozenset({"rope_theta", "rotary_fraction", "rope_scaling"})


#: How far from its share a head's channels are looked for that can be turned.
_FAR = 256


def without_rotary(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return defaults without what is of rotary positions alone, if other positions are given."""
    rotary = given.get("positions", "rotary") == "rotary"
    return {key: value for key, value in defaults.items() if rotary or key not in ROTARY}


def adapted(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, int]:
    """Return those of a preset's sizes that others have to take the place of.

    Parameters
    ----------
    preset : mapping
    given : mapping
        What was asked for; it is left as it is, right or wrong.
    """
    sizes = {
        key: value
        for key in ("n_kv_head", "n_head", "n_embd", "head_dim")
        if isinstance(value := given.get(key), int) and value is not True and value >= 1
    }
    found = _heads_and_channels(preset, sizes, _fits_heads(preset, given))
    heads = found.get("n_head", sizes.get("n_head", preset["n_head"]))
    width = found.get("n_embd", sizes.get("n_embd", preset["n_embd"]))
    if "n_kv_head" in preset and "n_kv_head" not in given and heads % preset["n_kv_head"]:
        fits = (k for k in range(preset["n_kv_head"], 0, -1) if heads % k == 0)
        found["n_kv_head"] = next(fits)
    if "n_hidden" in preset and "n_hidden" not in given and width != preset["n_embd"]:
        found["n_hidden"] = max(1, round(preset["n_hidden"] * width / preset["n_embd"]))
    return found


def _fits_heads(preset: Mapping[str, Any], given: Mapping[str, Any]) -> Callable[[int], bool]:
    """Return whether heads may have so many channels: rotary positions turn an even number."""
    said = {**preset, **given}
    family = said.get("family", FAMILY)
    defaults = FAMILIES.get(family, {}) if isinstance(family, str) else {}
    if "positions" not in said and not ROTARY.isdisjoint(said):
        said["positions"] = "rotary"
    values = {**defaults, **said}
    share = values.get("rotary_fraction", 1.0)
    is_share = isinstance(share, int | float) and 0 < share <= 1  # else refused later, with words
    if values.get("positions") != "rotary" or not is_share:
        return lambda size: True
    return lambda size: (turned := int(size * share)) > 0 and turned % 2 == 0


def _heads_and_channels(
    preset: Mapping[str, Any], sizes: Mapping[str, int], fits: Callable[[int], bool]
) -> dict[str, int]:
    """Return heads and channels, where one has to follow the other."""
    heads, width = sizes.get("n_head", preset["n_head"]), sizes.get("n_embd", preset["n_embd"])
    shared = sizes.get("n_kv_head", 1)
    apart = "head_dim" in sizes or "head_dim" in preset  # channels need not divide among heads

    def divides(h: int) -> bool:
        return apart or (width % h == 0 and fits(width // h))

    found: dict[str, int] = {}
    if "n_head" not in sizes and (heads % shared or ("n_embd" in sizes and not divides(heads))):
        possible = range(shared, max(heads, shared) + 1, shared)
        taken = [h for h in possible if "n_embd" not in sizes or divides(h)]
        heads = found["n_head"] = taken[-1] if taken else heads
    if "n_embd" not in sizes and not divides(heads):
        nearest = max(1, (width + heads // 2) // heads)
        found["n_embd"] = heads * next(filter(fits, _around(nearest)), nearest)
    return found


def _around(size: int) -> Iterator[int]:
    """Yield sizes from 1 on, the nearest first, and of two equally near the larger."""
    yield size
    for distance in range(1, _FAR):
        yield size + distance
        if size > distance:
            yield size - distance
