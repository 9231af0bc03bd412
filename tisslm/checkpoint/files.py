"""The files of a checkpoint: their names and formats, and which of them are required.

Arrays are safetensors and everything else is JSON. A tokenizer that has that form is written as the
``tokenizer.json`` of the Hugging Face library, with what the library wants beside it. What these
do not say of it is in the file that begins with its registered name.

The contents come from the owners of the states (``tisslm.training.snapshot``), which may have
further files that are not in this list.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from tisslm.errors import CheckpointError
from tisslm.system.durable import Block
from tisslm.system.safe_files import Refusal
from tisslm.system.strict_json import parse_json, read_json
from tisslm.system.tensor_files import TensorFile, tensor_chunks

__all__ = [
    "ADAPTER",
    "ADAPTER_CONFIG",
    "BASE",
    "CONFIG",
    "EMA",
    "FILES",
    "GENERATION_CONFIG",
    "HF_TOKENIZER",
    "MODEL",
    "OPTIMIZER",
    "REFERENCE",
    "TOKENIZER",
    "TOKENIZER_CONFIG",
    "TRAINER",
    "TRAINER_ARRAYS",
    "ArraysFile",
    "File",
    "JsonFile",
]

Array = NDArray[Any]
Arrays = Mapping[str, Array]
T = TypeVar("T")

_UNREADABLE = Refusal(
    CheckpointError,
    "what was to be written could not be read again",
    "give the part whose state it is one of plain JSON values under distinct names",
)


@dataclass(frozen=True)
class File(ABC, Generic[T]):
    """One file of a checkpoint.

    Attributes
    ----------
    name : str
    required : bool
        Whether a checkpoint without it is refused.
    """

    name: str
    required: bool = True

    @abstractmethod
    def blocks(self, content: T) -> Iterable[Block]:
        """Return the bytes of the file for a content, in blocks.

        Raises
        ------
        CheckpointError
            If ``read`` would refuse them.
        """

    @abstractmethod
    def read(self, folder: Path) -> T:
        """Read the content of the file in a checkpoint's directory.

        Raises
        ------
        CheckpointError
            If the file is missing or malformed.
        """


@dataclass(frozen=True)
class ArraysFile(File[Arrays]):
    """A file of named arrays, in the safetensors format.

    Attributes
    ----------
    called : str
        What messages call one of its arrays, if updates compute them: such arrays are saved only if
        they are finite, and a replay compares them. "" where any number is valid.
    stored : bool
        Whether arrays of uint16 are numbers in two bytes, which are written as bfloat16.
    slots : bool
        Whether this holds only for arrays that belong to a parameter (``<parameter>/<slot>``).
    """

    called: str = ""
    slots: bool = False
    stored: bool = False

    def blocks(self, content: Arrays) -> Iterable[Block]:
        """Return the bytes of the arrays, without copying them."""
        return tensor_chunks(content, self.name, bfloat16=content if self.stored else ())

    def read(self, folder: Path) -> Arrays:
        """Return the arrays as a mapping that reads each one when it is accessed."""
        return TensorFile(folder / self.name)

    def computed(self, content: Arrays) -> Arrays:
        """Return the arrays that must be finite to be saved."""
        if not self.called:
            return {}
        return _Slots(content) if self.slots else content


class _Slots(Mapping[str, Array]):
    """Those of some arrays that are slots for a parameter; none is made before it is asked for."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._names = [name for name in arrays if "/" in name]

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class JsonFile(File[Mapping[str, Any]]):
    """A JSON file with one object.

    Attributes
    ----------
    size, values : int
        Limits on the bytes and on the number of values that are read.
    allow_nan : bool
        Whether numbers may be NaN or infinite.
    """

    size: int = 2**20
    values: int = 2**20
    allow_nan: bool = False

    def blocks(self, content: Mapping[str, Any]) -> list[Block]:
        """Return the JSON text, after parsing it once: what is saved must be readable."""
        text = json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"
        if len(text) > self.size:
            raise _UNREADABLE(self.name, f"expected at most {self.size} bytes, got {len(text)}")
        parse_json(text, self.name, _UNREADABLE, max_values=self.values, allow_nan=self.allow_nan)
        return [text]

    def read(self, folder: Path) -> Mapping[str, Any]:
        """Return the object."""
        return read_json(
            folder / self.name, self.size, max_values=self.values, allow_nan=self.allow_nan
        )


MODEL = ArraysFile("model.safetensors", called="parameter", stored=True, required=False)
# In place of the model: adapters, what they are in PEFT's words, and what they are beside.
ADAPTER = ArraysFile("adapter_model.safetensors", called="parameter", required=False)
ADAPTER_CONFIG = JsonFile("adapter_config.json", required=False)
BASE = JsonFile("base.json", required=False)
CONFIG = JsonFile("config.json")
OPTIMIZER = ArraysFile("optimizer.safetensors", called="the optimizer's", slots=True)
EMA = ArraysFile("ema.safetensors", called="average", required=False)
TRAINER = JsonFile("trainer_state.json", size=2**29, values=2**24, allow_nan=True)
TRAINER_ARRAYS = ArraysFile("trainer.safetensors")
# What preferences are compared with: the log-probabilities of their answers at the start.
REFERENCE = ArraysFile("reference.safetensors", required=False)
# A tokenizer has a value for every token and merge.
TOKENIZER = JsonFile("tokenizer_state.json", required=False, size=2**29, values=2**24)
HF_TOKENIZER = JsonFile("tokenizer.json", required=False, size=2**29, values=2**24)
TOKENIZER_CONFIG = JsonFile("tokenizer_config.json", required=False)
GENERATION_CONFIG = JsonFile("generation_config.json", required=False)

#: The files of this format; a checkpoint that lacks a required one is damaged.
FILES: tuple[File[Any], ...] = (
    MODEL,
    ADAPTER,
    ADAPTER_CONFIG,
    BASE,
    CONFIG,
    OPTIMIZER,
    EMA,
    TRAINER,
    TRAINER_ARRAYS,
    REFERENCE,
    TOKENIZER,
    HF_TOKENIZER,
    TOKENIZER_CONFIG,
    GENERATION_CONFIG,
)
