"""The built-in families by what sets each apart from the defaults, and sizes of models by name.

A preset names its family, so that ``model.preset`` is enough. What a key means is documented at
``TransformerConfig``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tisslm.errors import ConfigError
from tisslm.errors.suggestions import did_you_mean

__all__ = ["FAMILIES", "FAMILY", "PRESETS", "family_of", "preset", "presets_of"]

#: The default family of models.
FAMILY = "gpt2"

_LLAMA: dict[str, Any] = {
    "norm": "rms",
    "positions": "rotary",
    "activation": "swiglu",
    "bias": False,
    "tie_embeddings": False,
}
_QWEN: dict[str, Any] = {**_LLAMA, "norm_eps": 1e-6, "rope_theta": 1e6}

#: What a family has in place of the defaults; every key of it may be given otherwise.
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {},
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": {**_QWEN, "qkv_bias": True},
    "qwen3": {**_QWEN, "qk_norm": "head"},
    "gpt_neox": {
        "positions": "rotary",
        "rotary_fraction": 0.25,
        "parallel_residual": True,
        "tie_embeddings": False,
    },
}

_GPT2 = {"seq_len": 1024, "vocab_size": 50257}
_SMOL = {"seq_len": 2048, "vocab_size": 49152, "rope_theta": 1e5, "tie_embeddings": True}
_PYTHIA = {"family": "gpt_neox", "n_layer": 6, "seq_len": 2048, "vocab_size": 50304}
_TINY = {"n_layer": 4, "n_head": 4, "n_kv_head": 2, "n_embd": 128, "seq_len": 64}

#: Sizes by name. ``gpt2*`` are those of Radford et al. 2019; ``char`` and ``char-tiny`` are the
#: character models that nanoGPT publishes for a GPU and for a laptop; ``*-tiny`` have the size of
#: ``char-tiny``. The others are those of the published weights, but for ``seq_len``, which is how
#: long the rows are that one trains on: weights were published for up to 8192 (SmolLM2), 131072
#: (Llama 3.2), 32768 (Qwen2.5) and 40960 tokens (Qwen3).
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "char-tiny": {"n_layer": 4, "n_head": 4, "n_embd": 128, "seq_len": 64, "bias": False},
    "char": {"n_layer": 6, "n_head": 6, "n_embd": 384, "seq_len": 256, "bias": False},
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768, **_GPT2},
    "gpt2-medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024, **_GPT2},
    "gpt2-large": {"n_layer": 36, "n_head": 20, "n_embd": 1280, **_GPT2},
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600, **_GPT2},
    "llama-tiny": {"family": "llama", **_TINY, "tie_embeddings": True},
    "smollm2-135m": {
        "family": "llama",
        "n_layer": 30,
        "n_head": 9,
        "n_kv_head": 3,
        "n_embd": 576,
        "n_hidden": 1536,
        **_SMOL,
    },
    "smollm2-360m": {
        "family": "llama",
        "n_layer": 32,
        "n_head": 15,
        "n_kv_head": 5,
        "n_embd": 960,
        "n_hidden": 2560,
        **_SMOL,
    },
    "llama-3.2-1b": {
        "family": "llama",
        "n_layer": 16,
        "n_head": 32,
        "n_kv_head": 8,
        "n_embd": 2048,
        "n_hidden": 8192,
        "seq_len": 2048,
        "vocab_size": 128256,
        "rope_theta": 5e5,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_embeddings": True,
    },
    "qwen2.5-0.5b": {
        "family": "qwen2",
        "n_layer": 24,
        "n_head": 14,
        "n_kv_head": 2,
        "n_embd": 896,
        "n_hidden": 4864,
        "seq_len": 2048,
        "vocab_size": 151936,
        "tie_embeddings": True,
    },
    "qwen3-tiny": {"family": "qwen3", **_TINY, "head_dim": 64, "tie_embeddings": True},
    "qwen3-0.6b": {
        "family": "qwen3",
        "n_layer": 28,
        "n_head": 16,
        "n_kv_head": 8,
        "n_embd": 1024,
        "head_dim": 128,
        "n_hidden": 3072,
        "seq_len": 2048,
        "vocab_size": 151936,
        "tie_embeddings": True,
    },
    "pythia-14m": {**_PYTHIA, "n_head": 4, "n_embd": 128, "n_hidden": 512},
    "pythia-70m": {**_PYTHIA, "n_head": 8, "n_embd": 512, "n_hidden": 2048},
}

_DEPTH = re.compile(r"depth-([1-9][0-9]{0,2})")

#: Channels of a head, and per layer, of the presets ``depth-N``.
_DEPTH_HEAD = 64


def preset(name: str) -> dict[str, Any]:
    """Return the settings of a preset, ``family`` among them.

    ``depth-N`` is a Llama of N layers, 64 N channels and N heads of 64: depth and width grow
    together, as in nanochat, so that one number gives a sensible model.

    Raises
    ------
    ConfigError
        If there is no preset of this name.
    """
    if found := _DEPTH.fullmatch(name):
        layers = int(found[1])
        sizes = {"n_layer": layers, "n_head": layers, "n_embd": _DEPTH_HEAD * layers}
        return {"family": "llama", **sizes, "seq_len": 512, "tie_embeddings": True}
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS)
        raise ConfigError(
            f"model.preset: unknown preset {name!r}. Known: {', '.join(PRESETS)}, and depth-N "
            f"with N from 1 to 999{hint and '.' + hint}"
        )
    return {"family": FAMILY, **PRESETS[name]}


def presets_of(family: str) -> dict[str, dict[str, Any]]:
    """Return the settings of each preset of a built-in family by its name, ``family`` left out."""
    return {
        name: {key: value for key, value in values.items() if key != "family"}
        for name, values in PRESETS.items()
        if values.get("family", FAMILY) == family
    }


def family_of(model: Mapping[str, Any]) -> str:
    """Return the family that the keys of ``[model]`` mean: the given one, or the preset's."""
    given, name = model.get("family"), model.get("preset")
    if isinstance(given, str):
        return given
    try:
        return str(preset(name)["family"]) if isinstance(name, str) else FAMILY
    except ConfigError:  # which is said where the preset is asked for
        return FAMILY
