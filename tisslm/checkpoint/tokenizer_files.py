"""The tokenizer of a checkpoint: its registered name and state, and files for other libraries.

It is built from them in ``tisslm.workflows.load_model``.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

from tisslm.checkpoint.files import (
    GENERATION_CONFIG,
    HF_TOKENIZER,
    TOKENIZER,
    TOKENIZER_CONFIG,
    File,
)
from tisslm.checkpoint.record import Checkpoint
from tisslm.contracts import Tokenizer
from tisslm.contracts.part_names import name_of
from tisslm.errors import PluginError
from tisslm.registry import Registry

__all__ = ["TOKENIZER_FILES", "read_tokenizer", "tokenizer_files", "tokenizer_state"]

#: All files that may be there for a tokenizer.
TOKENIZER_FILES = (HF_TOKENIZER, TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG)

#: The tokenizer whose state is a tokenizer.json: its registered name, and the key of the content.
HF_NAME, HF_KEY = "bpe", "tokenizer"


def tokenizer_state(tokenizer: Tokenizer | None, registry: Registry) -> dict[str, Any] | None:
    """Return the registered name and the state of a tokenizer, None if it has no such name."""
    if tokenizer is None:
        return None
    for part in registry.entries("tokenizer"):
        with contextlib.suppress(PluginError):  # a broken plugin is not the one in use
            if part.load() is type(tokenizer):
                return {"name": part.entry.name, "state": tokenizer.state()}
    warnings.warn(
        f"the checkpoint is written without its tokenizer: {name_of(tokenizer)} has no "
        "registered name. Register it as a plugin to generate text from the checkpoint",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def tokenizer_files(
    described: Mapping[str, Any] | None,
    published: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[File[Any], Mapping[str, Any]]:
    """Return the files for a tokenizer's description, with their content.

    Parameters
    ----------
    described : mapping or None
        ``{"name": ..., "state": ...}``; for None the result is empty.
    published : mapping, optional
        What ``Tokenizer.published`` returns: written, too. What ``tokenizer.json`` says is left out
        of the description.
    """
    if described is None:
        return {}
    by_name = {file.name: file for file in TOKENIZER_FILES if file is not TOKENIZER}
    files: dict[File[Any], Mapping[str, Any]] = {
        by_name[name]: content for name, content in (published or {}).items() if name in by_name
    }
    if described["name"] != HF_NAME or HF_KEY not in described["state"]:
        return files | {TOKENIZER: described}
    content = described["state"][HF_KEY]
    if files.setdefault(HF_TOKENIZER, content) != content:  # what others read is not all the same
        return files | {TOKENIZER: described}
    rest = {key: value for key, value in described["state"].items() if key != HF_KEY}
    return files | ({TOKENIZER: {"name": HF_NAME, "state": rest}} if rest else {})


def read_tokenizer(found: Checkpoint) -> Mapping[str, Any] | None:
    """Return the description of a checkpoint's tokenizer; None if it has none."""
    described: Mapping[str, Any] | None = found.files.get(TOKENIZER)
    if HF_TOKENIZER not in found.files:
        return described
    content = {HF_KEY: found[HF_TOKENIZER]}
    if described is None:
        return {"name": HF_NAME, "state": content}
    state = described.get("state")
    if described.get("name") == HF_NAME and isinstance(state, Mapping):
        return {"name": HF_NAME, "state": content | dict(state)}
    return described
