"""The tokenizer of a checkpoint: its registered name and state, in one of two files.

It is built from them in ``tisslm.workflows.load_model``.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

from tisslm.checkpoint.files import HF_TOKENIZER, TOKENIZER, File
from tisslm.checkpoint.record import Checkpoint
from tisslm.contracts import Tokenizer
from tisslm.contracts.part_names import name_of
from tisslm.errors import PluginError
from tisslm.registry import Registry

__all__ = ["read_tokenizer", "tokenizer_files", "tokenizer_state"]

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


def tokenizer_files(described: Mapping[str, Any] | None) -> dict[File[Any], Mapping[str, Any]]:
    """Return the file for a tokenizer's description, with its content.

    Parameters
    ----------
    described : mapping or None
        ``{"name": ..., "state": ...}``; for None the result is empty.
    """
    if described is None:
        return {}
    state = described["state"]
    if described["name"] == HF_NAME and set(state) == {HF_KEY}:
        return {HF_TOKENIZER: state[HF_KEY]}
    return {TOKENIZER: described}


def read_tokenizer(found: Checkpoint) -> Mapping[str, Any] | None:
    """Return the description of a checkpoint's tokenizer; None if it has none."""
    if HF_TOKENIZER in found.files:
        return {"name": HF_NAME, "state": {HF_KEY: found[HF_TOKENIZER]}}
    return found.files.get(TOKENIZER)
