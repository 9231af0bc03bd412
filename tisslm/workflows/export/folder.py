"""Writing a folder that Hugging Face transformers loads, and so does TissLM.

It is written under another name, synced file by file, and renamed, as a checkpoint is.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Model, Tokenizer
from tisslm.contracts.part_names import name_of
from tisslm.errors import CheckpointError, ConfigError
from tisslm.system.durable import DISK, Block
from tisslm.system.tensor_files import Kind, StreamedArrays, kind_of, tensor_chunks

__all__ = ["DTYPES", "check_replaceable", "put_folder", "write_folder"]

Array = NDArray[Any]

#: Types of weights: ours, and the word in ``config.json``.
DTYPES: Mapping[str, tuple[np.dtype[Any], str]] = {
    "fp32": (np.dtype(np.float32), "float32"),
    "fp16": (np.dtype(np.float16), "float16"),
    "bf16": (np.dtype(np.uint16), "bfloat16"),
}

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"

#: Files that an export may have left, and others may have put beside them.
_OF_AN_EXPORT = {
    _CONFIG, _WEIGHTS, "tokenizer.json", "tokenizer_config.json", "generation_config.json",
    "special_tokens_map.json", "chat_template.jinja", "adapter_config.json",
    "adapter_model.safetensors",
}  # fmt: skip


def write_folder(
    path: str | Path, model: Model, tokenizer: Tokenizer | None, dtype: str = "fp32"
) -> tuple[int, list[str]]:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer's files.

    Parameters
    ----------
    path : str or Path
        The folder to make; what is there already is replaced.
    model : Model
    tokenizer : Tokenizer or None
    dtype : {"fp32", "fp16", "bf16"}

    Returns
    -------
    nbytes : int
        The size of all files.
    notes : list of str
        What is not as asked for, in a sentence each.

    Raises
    ------
    ConfigError
        If transformers has no class for the model.
    CheckpointError
        If the folder cannot be written, or float16 cannot hold a weight; nothing is left behind.
    """
    exchange = model.exchange()
    if exchange is None:
        raise ConfigError(
            f"{path}: expected a model that Hugging Face transformers has a class for, got "
            f"{model.family or type(model).__name__!r} with settings that none has; its own "
            "checkpoints stay readable here"
        )
    stored, word = DTYPES[dtype]
    weights = _Typed(exchange.outward(model.parameters.state()), stored)
    config = {**exchange.config, "torch_dtype": word, "dtype": word}
    files = {} if tokenizer is None else tokenizer.published()
    notes = []
    if tokenizer is not None and files is None:
        notes.append(f"the tokenizer {name_of(tokenizer)} has no form there and is left out")
    bfloat16 = weights if dtype == "bf16" else ()
    chunks = tensor_chunks(weights, _WEIGHTS, bfloat16=bfloat16)
    return put_folder(path, {_CONFIG: config, **(files or {})}, {_WEIGHTS: chunks}), notes


def put_folder(
    path: str | Path,
    documents: Mapping[str, Mapping[str, Any]],
    tensors: Mapping[str, Iterable[Block]],
) -> int:
    """Write files to a folder, which is whole or absent, and return their size.

    Parameters
    ----------
    path : str or Path
        What is there already is replaced.
    documents : mapping of mapping
        JSON, by the name of the file; the first names a folder that is replaced.
    tensors : mapping of iterable of bytes

    Raises
    ------
    CheckpointError
        If it cannot be written; nothing is left behind.
    """
    folder, first = Path(path).absolute(), next(iter(documents))
    new = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    try:
        DISK.make_directory(new)
        try:
            written = {name: [_json(content)] for name, content in documents.items()}
            size = sum(
                DISK.write_file(new / name, blocks).size
                for name, blocks in {**written, **tensors}.items()
            )
            DISK.sync_directory(new)
            aside = folder.with_name(f".old-{folder.name}-{os.getpid()}")
            if DISK.put(new, folder, aside):
                with contextlib.suppress(OSError):  # the export is whole; the rest costs space
                    DISK.remove(aside, first)
        except BaseException:
            with contextlib.suppress(OSError):
                DISK.remove(new, first)
            raise
    except OSError as error:
        raise CheckpointError(
            f"{path}: could not be written ({error.strerror or error}); nothing is left behind. "
            "Choose another path or free space"
        ) from error
    return size


def check_replaceable(path: Path) -> None:
    """Refuse to replace anything but a folder with the files of an export alone.

    Raises
    ------
    ConfigError
    """
    others = (
        ["a file or a link"]
        if path.is_symlink() or not path.is_dir()
        else sorted({entry.name for entry in path.iterdir()} - _OF_AN_EXPORT)
    )
    if others:
        raise ConfigError(
            f"{path}: expected a folder that an export has written, got {others[0]!r:.100} "
            "there, which would be lost; choose another --output"
        )


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


class _Typed(StreamedArrays):
    """Arrays of one type, each made when it is asked for."""

    def __init__(self, arrays: Mapping[str, Array], dtype: np.dtype[Any]) -> None:
        self._arrays, self._dtype = arrays, dtype

    def kind(self, name: str) -> Kind:
        """Return shape and type of an array without making it."""
        return kind_of(self._arrays, name)[0], self._dtype

    def __getitem__(self, name: str) -> Array:
        x = self._arrays[name]
        if x.dtype == self._dtype:
            return x
        if self._dtype == np.uint16:
            row = np.ascontiguousarray(x, np.float32).reshape(1, -1)
            rounded = np.empty(row.shape, np.uint16)
            ops.narrow(row, rounded)
            return rounded.reshape(x.shape)
        with np.errstate(over="ignore"):
            found = x.astype(self._dtype)
        if not np.isfinite(found).all():
            raise CheckpointError(
                f"{name} has a number that {self._dtype} cannot hold; export with --dtype bf16 or "
                "fp32"
            )
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)
