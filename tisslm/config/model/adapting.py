"""The sizes of a preset, adapted to those that were given beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    found = _heads_and_channels(preset, sizes)
    heads = found.get("n_head", sizes.get("n_head", preset["n_head"]))
    width = found.get("n_embd", sizes.get("n_embd", preset["n_embd"]))
    if "n_kv_head" in preset and "n_kv_head" not in given and heads % preset["n_kv_head"]:
        fits = (k for k in range(preset["n_kv_head"], 0, -1) if heads % k == 0)
        found["n_kv_head"] = next(fits)
    if "n_hidden" in preset and "n_hidden" not in given and width != preset["n_embd"]:
        found["n_hidden"] = max(1, round(preset["n_hidden"] * width / preset["n_embd"]))
    return found


def _heads_and_channels(preset: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, int]:
    """Return heads and channels, where one has to follow the other."""
    heads, width = sizes.get("n_head", preset["n_head"]), sizes.get("n_embd", preset["n_embd"])
    shared = sizes.get("n_kv_head", 1)
    apart = "head_dim" in sizes or "head_dim" in preset  # channels need not divide among heads
    found: dict[str, int] = {}
    cut = "n_embd" in sizes and width % heads and not apart
    if "n_head" not in sizes and (heads % shared or cut):
        fits = range(shared, max(heads, shared) + 1, shared)
        divides = [h for h in fits if apart or "n_embd" not in sizes or width % h == 0]
        heads = found["n_head"] = divides[-1] if divides else heads
    if "n_embd" not in sizes and width % heads and not apart:
        found["n_embd"] = max(1, (width + heads // 2) // heads) * heads
    return found
