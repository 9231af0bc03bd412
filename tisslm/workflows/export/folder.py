"""Writing a folder that Hugging Face transformers loads, or sentence-transformers, and TissLM.

It is written under another name, synced file by file, and renamed, as a checkpoint is.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Encoder, Network, Tokenizer
from tisslm.errors import CheckpointError, ConfigError
from tisslm.system.durable import DISK
from tisslm.system.tensor_files import Kind, StreamedArrays, kind_of, tensor_chunks
from tisslm.workflows.export.contents import (
    Contents,
    TextForm,
    encoder_contents,
    model_contents,
)

__all__ = ["DTYPES", "check_replaceable", "put_folder", "write_folder"]

Array = NDArray[Any]

#: Types of weights: ours, and the word in ``config.json``.
DTYPES: Mapping[str, tuple[np.dtype[Any], str]] = {
    "fp32": (np.dtype(np.float32), "float32"),
    "fp16": (np.dtype(np.float16), "float16"),
    "bf16": (np.dtype(np.uint16), "bfloat16"),
}

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"

#: Files that an export may have left, and others may have put beside them; and folders of such.
_OF_AN_EXPORT = {
    _CONFIG, _WEIGHTS, "tokenizer.json", "tokenizer_config.json", "generation_config.json",
    "special_tokens_map.json", "chat_template.jinja", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "adapter_config.json", "adapter_model.safetensors",
}  # fmt: skip
_FOLDERS = {"1_Pooling", "2_Dense", "2_Normalize", "3_Normalize"}


def write_folder(
    path: str | Path,
    model: Network,
    tokenizer: Tokenizer | None,
    dtype: str = "fp32",
    *,
    texts: TextForm | None = None,
) -> tuple[int, list[str]]:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer's files.

    Of an encoder, also what sentence-transformers makes it of: pooling, projection, prompts.

    Parameters
    ----------
    path : str or Path
        The folder to make; what is there already is replaced.
    model : Network
    tokenizer : Tokenizer or None
    dtype : {"fp32", "fp16", "bf16"}
    texts : TextForm, optional
        What an encoder makes of texts; no prompts, and cut at its ``seq_len``, if left out.

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
    stored, word = DTYPES[dtype]
    if isinstance(model, Encoder):
        contents = encoder_contents(model, tokenizer, texts or TextForm(model.seq_len))
    else:
        contents = model_contents(model, tokenizer)
    if contents is None:
        raise ConfigError(
            f"{path}: expected a model that Hugging Face transformers has a class for, got "
            f"{model.family or type(model).__name__!r} with settings that none has; its own "
            "checkpoints stay readable here"
        )
    config = {**contents.files[_CONFIG], "torch_dtype": word, "dtype": word}
    files = {**contents.files, _CONFIG: config}
    return put_folder(path, replace(contents, files=files), stored), contents.notes


def put_folder(path: str | Path, contents: Contents, stored: np.dtype[Any]) -> int:
    """Write the files of a folder, which is whole or absent, and return their size.

    Parameters
    ----------
    path : str or Path
        What is there already is replaced.
    contents : Contents
        Its first file is what a folder that is replaced is known by.
    stored : dtype
        Of all arrays; uint16 is bfloat16.

    Raises
    ------
    CheckpointError
        If it cannot be written, or a number has no place in the type; nothing is left behind.
    """
    files, first = contents.files, next(iter(contents.files))
    folder = Path(path).absolute()
    new = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    try:
        DISK.make_directory(new)
        try:
            inner = sorted({Path(name).parent for name in (*files, *contents.arrays)})
            for below in inner[1:]:  # the first is the folder itself
                DISK.make_directory(new / below)
            size = sum(
                DISK.write_file(new / name, [_json(content)]).size
                for name, content in files.items()
            )
            for name, arrays in contents.arrays.items():
                weights = _Typed(arrays, stored)
                bfloat16 = weights if stored == np.uint16 else ()
                chunks = tensor_chunks(weights, name, bfloat16=bfloat16)
                size += DISK.write_file(new / name, chunks).size
            for below in reversed(inner):
                DISK.sync_directory(new / below)
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
        else sorted(_foreign(path, _OF_AN_EXPORT, _FOLDERS))
    )
    if others:
        raise ConfigError(
            f"{path}: expected a folder that an export has written, got {others[0]!r:.100} "
            "there, which would be lost; choose another --output"
        )


def _foreign(path: Path, files: Set[str], folders: Set[str]) -> Iterator[str]:
    """Yield what is in a folder and none of these, nor in one of these folders."""
    for entry in path.iterdir():
        if entry.name in folders and entry.is_dir() and not entry.is_symlink():
            inner = _foreign(entry, {_CONFIG, _WEIGHTS}, set())
            yield from (f"{entry.name}/{name}" for name in inner)
        elif entry.name not in files or entry.is_dir():
            yield entry.name


def _json(content: Any) -> bytes:
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
