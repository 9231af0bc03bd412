"""Writing the adapters of a run alone, as a folder that PEFT loads beside their model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tisslm import checkpoint
from tisslm.checkpoint import ADAPTER, ADAPTER_CONFIG, CONFIG
from tisslm.checkpoint.tokenizer_files import TOKENIZER_FILES
from tisslm.errors import ConfigError
from tisslm.registry import Registry, load_registry
from tisslm.system.tensor_files import tensor_chunks
from tisslm.workflows.export.folder import put_folder
from tisslm.workflows.open_model import tokenizer_of

__all__ = ["write_adapter"]


def write_adapter(path: Path, source: str | Path, registry: Registry | None = None) -> int:
    """Write ``adapter_config.json``, ``adapter_model.safetensors`` and the tokenizer's files.

    Parameters
    ----------
    path : Path
        The folder to make.
    source : str or Path
        A run or checkpoint of adapters.
    registry : Registry, optional
        Where the tokenizer's name is looked up.

    Returns
    -------
    int
        The size of all files.

    Raises
    ------
    ConfigError
        If it has none, or none that PEFT has a form for.
    CheckpointError
        If the source is damaged, or the folder cannot be written.
    """
    place = checkpoint.find(source)
    found = checkpoint.read(place, (ADAPTER, ADAPTER_CONFIG, CONFIG, *TOKENIZER_FILES))
    if ADAPTER not in found.files:
        raise ConfigError(
            f"{place.path}: expected the checkpoint of a run that trained adapters, got one of a "
            "whole model; export it with --format hf or gguf"
        )
    if ADAPTER_CONFIG not in found.files:
        raise ConfigError(
            f"{place.path}: expected adapters of whole modules of PEFT, got some of a part of one, "
            'as q and v of GPT-2 are; train with adapter.targets = ["qkv"], or export it merged, '
            "with --format hf or gguf"
        )
    saved = checkpoint.read_tokenizer(found)
    known = registry if registry is not None or saved is None else load_registry()
    tokenizer = None if saved is None or known is None else tokenizer_of(saved, known, place.path)
    files = None if tokenizer is None else tokenizer.published()
    arrays: Mapping[str, Any] = found.files[ADAPTER]
    documents = {ADAPTER_CONFIG.name: found[ADAPTER_CONFIG], **(files or {})}
    return put_folder(path, documents, {ADAPTER.name: tensor_chunks(arrays, ADAPTER.name)})
