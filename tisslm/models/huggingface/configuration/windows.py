"""Which layers have a window: all of Mistral, those that Qwen names."""

from __future__ import annotations

from typing import Any

from tisslm.config.model import TransformerConfig
from tisslm.config.model.keys import FULL, SLIDING
from tisslm.models.huggingface.configuration.source import Source

__all__ = ["read", "write"]

#: What the classes take where a file does not say it.
_WINDOW, _FIRST = 4096, 28


def read(source: Source, family: str, layers: int) -> dict[str, Any]:
    """Return window and kinds of layers."""
    window = source.count("sliding_window", _WINDOW)
    if "sliding_window" in source and source.get("sliding_window") is None:
        window = 0
    kinds = source.get("layer_types")
    if kinds is not None and (
        not isinstance(kinds, list)
        or len(kinds) != layers
        or any(kind not in (FULL, SLIDING) for kind in kinds)
    ):
        source.refuse("layer_types", f"{layers} names out of {FULL} and {SLIDING}")
    if family == "mistral":
        if kinds is not None and set(kinds) != {SLIDING if window else FULL}:
            source.refuse("layer_types", "the same for all layers, as sliding_window has it")
        return {"window": window}
    first = source.get("max_window_layers", _FIRST)
    if type(first) is not int or first < 0:
        source.refuse("max_window_layers", "an integer >= 0")
    if not source.flag("use_sliding_window", False):
        window = 0
    if kinds is None:
        kinds = [SLIDING if window and i >= first else FULL for i in range(layers)]
    if SLIDING in kinds and not window:
        source.refuse("layer_types", f"no {SLIDING} without use_sliding_window and sliding_window")
    if SLIDING not in kinds:
        return {"window": 0}
    return {"window": window, "layer_types": None if FULL not in kinds else kinds}


def write(config: TransformerConfig) -> dict[str, Any] | None:
    """Return the keys; None if all layers of the family are alike, and those of the shape not."""
    sizes = [config.window_of(i) for i in range(config.n_layer)]
    window = max(sizes)
    if config.family == "mistral":
        return {"sliding_window": window or None} if len(set(sizes)) == 1 else None
    return {
        "use_sliding_window": window > 0,
        "sliding_window": window or None,
        "max_window_layers": next((i for i, size in enumerate(sizes) if size), config.n_layer),
        "layer_types": [SLIDING if size else FULL for size in sizes],
    }
