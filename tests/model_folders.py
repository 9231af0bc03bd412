"""Folders of small models, as ``save_pretrained`` and we write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import Transformer, TransformerConfig
from tisslm.ops.reference.storage import store
from tisslm.system.tensor_files import tensor_chunks

__all__ = ["SIZES", "model_of", "narrowed", "save", "write_config", "write_shards", "write_weights"]

Array = NDArray[Any]

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 12, "vocab_size": 11}


def model_of(family: str, **keys: Any) -> Transformer:
    """Return a small model whose weights all matter, biases among them."""
    model = Transformer(TransformerConfig(**{**SIZES, "family": family, **keys}), seed=1)
    rng = np.random.default_rng(1)
    for parameter in model.parameters:
        one = 1.0 if parameter.name.endswith("norm.weight") else 0.0
        parameter.data[...] = one + 0.2 * rng.standard_normal(parameter.shape)
    return model


def write_config(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(content))


def write_weights(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays, those of uint16 as bfloat16."""
    path.write_bytes(b"".join(map(bytes, tensor_chunks(arrays, bfloat16=arrays))))


def write_shards(folder: Path, arrays: Mapping[str, Array], count: int = 3) -> None:
    """Write arrays in several files, with an index."""
    index = {}
    for i in range(count):
        shard = f"model-{i + 1:05}-of-{count:05}.safetensors"
        part = {name: arrays[name] for name in sorted(arrays)[i::count]}
        write_weights(folder / shard, part)
        index |= dict.fromkeys(part, shard)
    total = sum(array.nbytes for array in arrays.values())
    content = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def narrowed(arrays: Mapping[str, Array], dtype: str) -> dict[str, Array]:
    """Return arrays rounded to a type; uint16 stands for bfloat16."""
    found = {name: np.empty(arrays[name].shape, dtype) for name in arrays}
    for name, array in found.items():
        store(array, np.ascontiguousarray(arrays[name]))
    return found


def save(model: Transformer, folder: Path, *, dtype: str = "float32", own: bool = True) -> Path:
    """Write a folder; without ``own``, as if transformers alone had written it."""
    folder.mkdir(parents=True, exist_ok=True)
    exchange = model.exchange()
    assert exchange is not None
    write_weights(
        folder / "model.safetensors", narrowed(exchange.outward(model.parameters.state()), dtype)
    )
    write_config(folder, {k: v for k, v in exchange.config.items() if own or k != "tisslm"})
    return folder
