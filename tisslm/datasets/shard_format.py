"""The format of token shards, to the byte, and reading and checking their manifest.

A folder of shards holds, for each split, ``train`` or ``valid``:

``NAME-00000.bin``, ``NAME-00001.bin``, ...
    Token ids, little-endian, after 256 int32 of header. They are files of llm.c: magic 20240520 and
    version 1 with uint16 ids, or magic 20240801 and version 7 with uint32 ids where the vocabulary
    needs them; the third number is how many ids follow, the others are 0. All shards of a split but
    the last have the same number, and together they are one sequence: a document may go on in the
    next file.
``NAME.idx``
    16 bytes (``TissLMix``, then the number of offsets as int64) and the offsets, int64: document i
    is ids ``offsets[i]`` to ``offsets[i + 1] - 1`` of the whole sequence.
``NAME.mask``
    Only where some token is no target (a prompt): one bit for each token, the lowest bit of a byte
    first, 1 where it may be a target.

``shards.json`` names all of it with sizes and SHA-256, and is written last; the tokenizer lies
beside it.

Token ids are read in ``shards`` and written in ``tisslm.workflows.tokenize``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tisslm.errors import DataError, TissLMError
from tisslm.system.safe_files import Refusal, RegularFile
from tisslm.system.strict_json import parse_json

__all__ = [
    "HEADER_BYTES",
    "INDEX_BYTES",
    "INDEX_MAGIC",
    "MANIFEST",
    "MAX_TOKENS",
    "FileRecord",
    "Manifest",
    "SplitRecord",
    "TokenizerRecord",
    "header",
    "index_header",
    "read_manifest",
    "read_object",
    "state_digest",
    "token_type",
]

MANIFEST = "shards.json"
VERSION = 1

HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
#: Magic and version of a file by the type of its ids: those of llm.c.
KINDS = {"uint16": (20240520, 1), "uint32": (20240801, 7)}
#: The most tokens of a file: the header counts them in an int32.
MAX_TOKENS = 2**31 - 1

INDEX_MAGIC = b"TissLMix"
INDEX_BYTES = 16

#: The most bytes of a manifest or tokenizer; a hostile file is refused before it is read.
MAX_JSON = 2**28
#: The most values in it: some for each file, and the merges of a vocabulary.
MAX_VALUES = 2**24

DAMAGED = Refusal(
    DataError,
    "the token shards are damaged or incomplete",
    "make them again with tisslm tokenize",
)

_Count = Annotated[int, Field(ge=1, lt=2**62)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# No separator and no leading dot: a manifest cannot point out of its folder.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class FileRecord(_Record):
    """A file's size in bytes and its SHA-256."""

    bytes: Annotated[int, Field(ge=0, lt=2**62)]
    sha256: _Digest


class SplitRecord(_Record):
    """The files of one split, and what is in them.

    Attributes
    ----------
    documents, tokens, targets : int
        ``targets`` is how many tokens may be targets.
    largest_id : int
    shard_tokens : int
        Number of ids in each file but the last.
    files : list of str
        Names of the files with ids, in order.
    index : str
    mask : str or None
        Name of the file with the mask; None if every token may be a target.
    """

    documents: _Count
    tokens: _Count
    targets: Annotated[int, Field(ge=0)]
    largest_id: Annotated[int, Field(ge=0, lt=2**32)]
    shard_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)]
    files: Annotated[list[_Name], Field(min_length=1)]
    index: _Name
    mask: _Name | None = None

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if len(self.files) != -(-self.tokens // self.shard_tokens):
            raise ValueError(
                f"{self.tokens} tokens in files of {self.shard_tokens} are not {len(self.files)} "
                "files"
            )
        if self.documents > self.tokens or self.targets > self.tokens:
            raise ValueError("more documents or targets than tokens")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all its files."""
        return (*self.files, self.index, *((self.mask,) if self.mask else ()))

    def tokens_of(self, number: int) -> int:
        """Return how many ids file ``number`` has."""
        return min(self.shard_tokens, self.tokens - number * self.shard_tokens)


class TokenizerRecord(_Record):
    """The tokenizer that made the ids: its registered name, its file, and SHA-256 of its state."""

    name: str
    file: _Name
    sha256: _Digest
    vocab_size: Annotated[int, Field(ge=1, le=2**32)]
    end_of_text: int | None = None


class Manifest(_Record):
    """The contents of ``shards.json``.

    Attributes
    ----------
    format, version
        Name and version of the format.
    made_by : str
        The version of TissLM that wrote it.
    dtype : "uint16" or "uint32"
    tokenizer : TokenizerRecord
    splits : dict of str to SplitRecord
    files : dict of str to FileRecord
        Every file of the folder except this one.
    sources : dict of str to int
        The files that were read, and their sizes in bytes.
    """

    format: Literal["TissLM token shards"] = "TissLM token shards"
    version: int = VERSION
    made_by: str
    dtype: Literal["uint16", "uint32"]
    tokenizer: TokenizerRecord
    splits: Annotated[dict[_Name, SplitRecord], Field(min_length=1)]
    files: dict[_Name, FileRecord]
    sources: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _files_are_listed(self) -> Self:
        for split in self.splits.values():
            for name in split.names:
                if name not in self.files:
                    raise ValueError(f"{name} is not among the files")
        if self.tokenizer.file not in self.files:
            raise ValueError(f"{self.tokenizer.file} is not among the files")
        return self

    def json_text(self) -> str:
        """Return the content of the file."""
        return json.dumps(self.model_dump(), indent=1, ensure_ascii=False) + "\n"


# --------------------------------------------------------------------------- headers


def token_type(vocab_size: int) -> np.dtype[Any]:
    """Return the type of the ids in a file: uint16 where it holds the vocabulary, else uint32."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


def header(dtype: str, n_tokens: int) -> bytes:
    """Return the first 1024 bytes of a file of ``n_tokens`` ids of this type."""
    numbers = np.zeros(HEADER_INTS, dtype="<i4")
    numbers[:3] = (*KINDS[dtype], n_tokens)
    return numbers.tobytes()


def index_header(n_offsets: int) -> bytes:
    """Return the first 16 bytes of an index of ``n_offsets`` offsets."""
    return INDEX_MAGIC + n_offsets.to_bytes(8, "little")


def state_digest(name: str, state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a tokenizer: of its name and state as JSON with sorted keys."""
    text = json.dumps(
        {"name": name, "state": state}, sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


# --------------------------------------------------------------------------- reading


def read_object(path: Path, limit: int = MAX_JSON) -> dict[str, Any]:
    """Read a file of shards that is one JSON object of at most ``limit`` bytes.

    Raises
    ------
    DataError
        If it is missing, no regular file, larger, cannot be read, or is no strict JSON.
    """
    with RegularFile(path, DAMAGED, follow=True) as file:
        return parse_json(file.read(limit), path, DAMAGED, max_values=MAX_VALUES)


def damaged(path: Path, reason: str) -> TissLMError:
    """Return the error for a file of shards that has changed since it was written."""
    return DAMAGED(path, reason)


def read_manifest(folder: Path) -> Manifest:
    """Read and check the ``shards.json`` of a folder.

    Raises
    ------
    DataError
        If there is none, it is of a later version, or it is no manifest.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(
            f"{folder}: expected a folder of token shards with a {MANIFEST}, found none; make one "
            "with tisslm tokenize TEXT --out DIR"
        )
    text = json.dumps(read_object(path))  # what JSON calls a list may be a tuple here
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise damaged(path, f"{place}: {first['msg']}" if place else first["msg"]) from None
    if manifest.version != VERSION:
        raise DataError(
            f"{path}: expected version {VERSION} of token shards, got {manifest.version}; update "
            "TissLM, or make them again with tisslm tokenize"
        )
    return manifest


def check_header(path: Path, numbers: NDArray[Any], dtype: str, n_tokens: int) -> None:
    """Compare the header of a token file with the manifest."""
    expected = (*KINDS[dtype], n_tokens)
    found = tuple(int(number) for number in numbers[:3])
    if found != expected:
        raise damaged(
            path, f"its header says magic, version and tokens {found}, its manifest {expected}"
        )
