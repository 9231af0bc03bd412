"""What a checkpoint holds, and the file that each part of it is.

Arrays are safetensors and everything else is JSON. A byte-pair tokenizer is written as the
``tokenizer.json`` of the Hugging Face library, and the file's name says which tokenizer reads it.
Any other is ``tokenizer_state.json``, with its registered name.

What does not live here: what the states mean; their owners write and read them.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.contracts.part_names import name_of
from tisslm.errors import CheckpointError, PluginError
from tisslm.registry import Registry
from tisslm.system.durable import Block
from tisslm.system.safe_files import Refusal
from tisslm.system.strict_json import parse_json
from tisslm.system.tensor_files import tensor_chunks

__all__ = [
    "CONFIG",
    "HF_TOKENIZER",
    "LIMITS",
    "MODEL",
    "OPTIMIZER",
    "TOKENIZER",
    "TRAINER",
    "TRAINER_ARRAYS",
    "Checkpoint",
    "contents",
    "tokenizer_state",
]

Array = NDArray[Any]

MODEL = "model.safetensors"
CONFIG = "config.json"
OPTIMIZER = "optimizer.safetensors"
TRAINER = "trainer_state.json"
TRAINER_ARRAYS = "trainer.safetensors"
TOKENIZER = "tokenizer_state.json"
HF_TOKENIZER = "tokenizer.json"

#: The tokenizer whose state is a tokenizer.json: its registered name, and the key of the content.
HF_NAME, HF_KEY = "bpe", "tokenizer"


@dataclass(frozen=True)
class Limits:
    """What a JSON file may have, so that it can be read: bytes, values, and NaN."""

    size: int
    values: int = 2**20
    allow_nan: bool = False


#: A tokenizer has a value for every token and merge.
LIMITS = {
    CONFIG: Limits(2**20),
    TRAINER: Limits(2**29, 2**24, allow_nan=True),
    TOKENIZER: Limits(2**29, 2**24),
    HF_TOKENIZER: Limits(2**29, 2**24),
}

_UNREADABLE = Refusal(
    CheckpointError,
    "what was to be written could not be read again",
    "give the part whose state it is one of plain JSON values under distinct names",
)


@dataclass
class Checkpoint:
    """Everything that a run needs to go on.

    The arrays may be views of the run's own, or copies that a thread writes later.

    Attributes
    ----------
    model : dict of str to ndarray
        Parameters by name.
    model_config : dict
    optimizer : dict of str to ndarray
    trainer : dict
        Plain JSON values: step, epoch, seed and the states of stateful parts.
    tokenizer : dict or None
        ``{"name": ..., "state": ...}``.
    metrics : dict of str to float
        What was measured at this step, such as "eval/loss", by which the best are kept. A value
        that is not finite is left out when it is written.
    trainer_arrays : dict of str to ndarray
        What of the trainer's state would be long in JSON: the loss history.
    """

    model: Mapping[str, Array]
    model_config: Mapping[str, Any]
    optimizer: Mapping[str, Array] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    trainer_arrays: Mapping[str, Array] = field(default_factory=dict)


def contents(checkpoint: Checkpoint) -> Iterator[tuple[str, Iterable[Block]]]:
    """Yield the name and the content of each file, but for the manifest."""
    yield MODEL, tensor_chunks(checkpoint.model, MODEL)
    yield CONFIG, _json(CONFIG, checkpoint.model_config)
    yield OPTIMIZER, tensor_chunks(checkpoint.optimizer, OPTIMIZER)
    yield TRAINER, _json(TRAINER, checkpoint.trainer)
    yield TRAINER_ARRAYS, tensor_chunks(checkpoint.trainer_arrays, TRAINER_ARRAYS)
    if checkpoint.tokenizer is not None:
        yield _tokenizer_file(checkpoint.tokenizer)


def _tokenizer_file(tokenizer: Mapping[str, Any]) -> tuple[str, Iterable[Block]]:
    state = tokenizer["state"]
    if tokenizer["name"] == HF_NAME and set(state) == {HF_KEY}:
        return HF_TOKENIZER, _json(HF_TOKENIZER, state[HF_KEY])
    return TOKENIZER, _json(TOKENIZER, tokenizer)


def _json(name: str, value: Mapping[str, Any]) -> list[Block]:
    """Return the text of a file, which was read once: a checkpoint must not be lost by its form.

    Raises
    ------
    CheckpointError
        If ``reading`` would refuse it.
    """
    text, limits = json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n", LIMITS[name]
    if len(text) > limits.size:
        raise _UNREADABLE(name, f"expected at most {limits.size} bytes, got {len(text)}")
    parse_json(text, name, _UNREADABLE, max_values=limits.values, allow_nan=limits.allow_nan)
    return [text]


def tokenizer_state(tokenizer: Tokenizer | None, registry: Registry) -> dict[str, Any] | None:
    """Describe a tokenizer by its registered name; None if there is none, or none of that class."""
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
