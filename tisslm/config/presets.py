"""Sizes of models by name."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

#: Sizes by name. ``gpt2*`` are those of Radford et al. 2019; ``char`` and ``char-tiny`` are the
#: character models that nanoGPT publishes for a GPU and for a laptop.
PRESETS: dict[str, dict[str, Any]] = {
    "char-tiny": {"n_layer": 4, "n_head": 4, "n_embd": 128, "seq_len": 64, "bias": False},
    "char": {"n_layer": 6, "n_head": 6, "n_embd": 384, "seq_len": 256, "bias": False},
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768, "seq_len": 1024, "vocab_size": 50257},
    "gpt2-medium": {
        "n_layer": 24,
        "n_head": 16,
        "n_embd": 1024,
        "seq_len": 1024,
        "vocab_size": 50257,
    },
    "gpt2-large": {
        "n_layer": 36,
        "n_head": 20,
        "n_embd": 1280,
        "seq_len": 1024,
        "vocab_size": 50257,
    },
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600, "seq_len": 1024, "vocab_size": 50257},
}
