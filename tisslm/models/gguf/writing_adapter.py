"""Writing adapters as a GGUF file, which llama.cpp applies to the file of their model.

The tensors of an adapter are called as the one that it is beside, with an end that says which of
the two they are; rows are in that one's order.

References
----------
llama.cpp, ``convert_lora_to_gguf.py`` and ``src/llama-adapter.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.config import AdapterConfig
from tisslm.config.model import TransformerConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.gguf.architectures import OF_FAMILY, Architecture, Part, parts_of
from tisslm.models.gguf.arrays import neighbours_together
from tisslm.models.initialization import parameter_specs
from tisslm.models.tuning.adapters import adapter_names, rows_of
from tisslm.system.durable import replacing
from tisslm.system.gguf_files import Tensor, gguf_chunks
from tisslm.system.gguf_files.kinds import tensor_kind

__all__ = ["write_gguf_adapter"]

Array = NDArray[Any]


def write_gguf_adapter(
    path: str | Path,
    config: TransformerConfig,
    adapter: AdapterConfig,
    arrays: Mapping[str, Array],
) -> None:
    """Write adapters in float32, atomically.

    Parameters
    ----------
    path : str or Path
    config : TransformerConfig
        Of the model that they are beside.
    adapter : AdapterConfig
    arrays : mapping of str to ndarray
        The adapters by our names.

    Raises
    ------
    ConfigError
        If llama.cpp has no such architecture, or no tensor of what is adapted.
    CheckpointError
        If the file cannot be written.
    """
    architecture = OF_FAMILY.get(config.family)
    if architecture is None:
        raise ConfigError(
            f"GGUF: expected adapters of a model of the families {', '.join(OF_FAMILY)}, got one "
            f"of {config.family!r}"
        )
    metadata = {
        "general.architecture": architecture.name,
        "general.type": "adapter",
        "adapter.type": "lora",
        # divided by R there, whatever the scale is here
        "adapter.lora.alpha": float(adapter.scale * adapter.rank),
    }
    tensors = dict(_tensors(config, architecture, adapter, arrays))
    try:
        with replacing(Path(path)) as file:
            for chunk in gguf_chunks(metadata, tensors):
                file.write(chunk)
    except OSError as error:
        raise CheckpointError(
            f"{path}: could not be written ({error.strerror or error}); nothing is left behind. "
            "Choose another path or free space"
        ) from error


def _tensors(
    config: TransformerConfig,
    architecture: Architecture,
    adapter: AdapterConfig,
    arrays: Mapping[str, Array],
) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of each matrix."""
    kind = tensor_kind("F32")
    for spec in parameter_specs(config):
        for target in adapter.targets:
            rows = rows_of(spec, target)
            if rows is None:
                continue
            part = _part(list(parts_of(spec, architecture, config)), rows, target, architecture)
            for name, end in zip(adapter_names(spec.name, target), ("a", "b"), strict=True):
                heads = part.heads if end == "b" else 0
                make = partial(_numbers, arrays, name, heads)
                yield f"{part.name}.lora_{end}", Tensor(arrays[name].shape, kind, make)


def _part(parts: list[Part], rows: slice, target: str, architecture: Architecture) -> Part:
    """Return the tensor that a target is."""
    found = [part for part in parts if part.rows == rows]
    if not found:
        raise ConfigError(
            f"GGUF: llama.cpp's architecture {architecture.name} has no tensor of {target} alone; "
            "train with other adapter.targets, or export the run merged, with --format gguf"
        )
    return found[0]


def _numbers(arrays: Mapping[str, Array], name: str, heads: int) -> Array:
    x = np.ascontiguousarray(ops.widen(arrays[name]), np.float32)
    return neighbours_together(x, heads) if heads else x
