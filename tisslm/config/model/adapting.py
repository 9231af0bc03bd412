"""The sizes of a preset, adapted to those that were given beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tisslm.config.model.positions import positions_of
from tisslm.config.model.presets import FAMILIES

__all__ = ["adapted"]


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
    found = _heads_and_channels(preset, sizes, _turned_share(preset, given))
    heads = found.get("n_head", sizes.get("n_head", preset["n_head"]))
    width = found.get("n_embd", sizes.get("n_embd", preset["n_embd"]))
    if "n_kv_head" in preset and "n_kv_head" not in given and heads % preset["n_kv_head"]:
        fits = (k for k in range(preset["n_kv_head"], 0, -1) if heads % k == 0)
        found["n_kv_head"] = next(fits)
    if "n_hidden" in preset and "n_hidden" not in given and width != preset["n_embd"]:
        found["n_hidden"] = max(1, round(preset["n_hidden"] * width / preset["n_embd"]))
    return found


def _turned_share(preset: Mapping[str, Any], given: Mapping[str, Any]) -> float:
    """Return the share of a head's channels that rotary positions turn; 0 without these."""
    family = given.get("family", preset.get("family"))
    if positions_of(family, given) != "rotary":
        return 0.0
    defaults = FAMILIES.get(family, {}) if isinstance(family, str) else {}
    share = {"rotary_fraction": 1.0, **defaults, **preset, **given}["rotary_fraction"]
    return float(share) if isinstance(share, int | float) and 0 < share <= 1 else 0.0


def _turns(size: int, share: float) -> bool:
    """Return True if heads of this size have pairs of channels to turn, or turn none."""
    turned = int(size * share)
    return not share or (turned > 0 and turned % 2 == 0)


def _heads_and_channels(
    preset: Mapping[str, Any], sizes: Mapping[str, int], share: float
) -> dict[str, int]:
    """Return heads and channels, where one has to follow the other."""
    heads, width = sizes.get("n_head", preset["n_head"]), sizes.get("n_embd", preset["n_embd"])
    shared = sizes.get("n_kv_head", 1)
    apart = "head_dim" in sizes or "head_dim" in preset  # channels need not divide among heads
    found: dict[str, int] = {}
    odd = not apart and not (width % heads == 0 and _turns(width // heads, share))
    cut = "n_embd" in sizes and odd
    if "n_head" not in sizes and (heads % shared or cut):
        fits = range(shared, max(heads, shared) + 1, shared)
        divides = [
            h
            for h in fits
            if apart or "n_embd" not in sizes or (width % h == 0 and _turns(width // h, share))
        ]
        heads = found["n_head"] = divides[-1] if divides else heads
    if "n_embd" not in sizes and not apart:
        found["n_embd"] = _nearest(width, heads, share)
    return {key: size for key, size in found.items() if size != preset[key]}


def _nearest(width: int, heads: int, share: float) -> int:
    """Return the channels nearest to a width that so many heads can have, the more of two."""
    around = max(1, (width + heads // 2) // heads)
    sizes = [size for size in range(1, 2 * around + 64) if _turns(size, share)] or [around]
    return heads * min(sizes, key=lambda size: (abs(size * heads - width), -size))
