"""A folder of token shards that is written under another name and renamed when complete.

Everything is written to ``.tmp-shards-NAME-<pid>`` beside it. When all is on disk, ``shards.json``
follows, and then the folder gets its name: an interrupted run leaves nothing that looks complete,
and its leftovers are removed by the next run.

The files are written in ``split_writer``; their format is described in
``tisslm.datasets.shard_format``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from tisslm.contracts import Tokenizer
from tisslm.datasets.shard_checks import file_digest
from tisslm.datasets.shard_format import (
    MANIFEST,
    MAX_TOKENS,
    FileRecord,
    Manifest,
    TokenizerRecord,
    state_digest,
    token_type,
)
from tisslm.datasets.shards import BPE_FILE, STATE_FILE
from tisslm.errors import ConfigError, DataError
from tisslm.registry.discovery import tisslm_version
from tisslm.system.durable import DISK, sync
from tisslm.system.process_identity import is_of_a_dead_process
from tisslm.workflows.tokenize.split_writer import SplitWriter

__all__ = ["ShardFolder", "check_new"]

TEMPORARY = ".tmp-shards-"


@final
class ShardFolder:
    """A folder of token shards that is being written; a context manager.

    Parameters
    ----------
    path : Path
        Where the folder will be; nothing but an empty folder may be there.
    tokenizer : Tokenizer
    name : str
        The tokenizer's registered name.
    shard_tokens : int
        Ids in each file but the last of a split.

    Raises
    ------
    ConfigError
        If ``path`` is taken, or ``shard_tokens`` is out of bounds.
    DataError
        If the folder cannot be created.
    """

    def __init__(
        self, path: Path, tokenizer: Tokenizer, name: str, shard_tokens: int = 10**8
    ) -> None:
        if not 1 <= shard_tokens <= MAX_TOKENS:
            raise ConfigError(
                f"--shard-tokens: expected a number between 1 and {MAX_TOKENS}, which is what the "
                f"header of a file can count, got {shard_tokens}"
            )
        self.path = path
        check_new(path)
        self._tokenizer, self._name = tokenizer, name
        self._shard_tokens = shard_tokens
        self._splits: dict[str, SplitWriter] = {}
        self._temporary = path.absolute().with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")

    def __enter__(self) -> Self:
        try:
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            remove_litter(self._temporary.parent, self.path.name)
            DISK.make_directory(self._temporary)
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._splits.values():
            writer.close()
        shutil.rmtree(self._temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise self._failed(error) from error

    def split(self, name: str) -> SplitWriter:
        """Return the writer of a split, created at the first call."""
        if name not in self._splits:
            size = self._tokenizer.vocab_size
            self._splits[name] = SplitWriter(
                self._temporary, name, token_type(size), size, self._shard_tokens
            )
        return self._splits[name]

    def finish(self, sources: Iterable[Path] = ()) -> Manifest:
        """Make everything durable and give the folder its name.

        Parameters
        ----------
        sources : iterable of Path
            The files that were read, to be named in the manifest.

        Raises
        ------
        DataError
            If there is nothing to train on, or the files cannot be written.
        """
        splits = {name: writer.finish() for name, writer in self._splits.items()}
        self._write_tokenizer()
        files = {}
        for path in sorted(self._temporary.iterdir()):
            sync(path)
            files[path.name] = FileRecord(bytes=path.stat().st_size, sha256=file_digest(path))
        manifest = Manifest(
            made_by=tisslm_version(),
            dtype="uint16" if token_type(self._tokenizer.vocab_size).itemsize == 2 else "uint32",
            tokenizer=self._record(),
            splits=splits,
            files=files,
            sources={str(path): path.stat().st_size for path in sources if path.is_file()},
        )
        DISK.write_file(self._temporary / MANIFEST, [manifest.json_text().encode()])
        DISK.sync_directory(self._temporary)
        DISK.rename(self._temporary, self.path)
        DISK.sync_directory(self._temporary.parent)
        return manifest

    def _record(self) -> TokenizerRecord:
        state = self._tokenizer.state()
        return TokenizerRecord(
            name=self._name,
            file=BPE_FILE if self._is_one_file(state) else STATE_FILE,
            sha256=state_digest(self._name, state),
            vocab_size=self._tokenizer.vocab_size,
            end_of_text=self._tokenizer.end_of_text,
        )

    def _write_tokenizer(self) -> None:
        """Write a byte-pair tokenizer as tokenizer.json, any other as its name and state."""
        state = self._tokenizer.state()
        if self._is_one_file(state):
            write_json(self._temporary / BPE_FILE, state["tokenizer"])
        else:
            write_json(self._temporary / STATE_FILE, {"name": self._name, "state": state})

    def _is_one_file(self, state: Mapping[str, Any]) -> bool:
        """Return True if a tokenizer.json says all of the tokenizer."""
        return self._name == "bpe" and set(state) == {"tokenizer"}

    def _failed(self, error: OSError) -> DataError:
        return DataError(
            f"{self.path}: the token shards could not be written ({error.strerror or error}); "
            "nothing is left behind. Free space or choose another --out"
        )


def check_new(path: Path) -> None:
    """Raise an error if a path is taken by anything but an empty folder.

    Raises
    ------
    ConfigError
        If the path is taken.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if os.path.lexists(path):
        raise ConfigError(
            f"{path}: expected a new folder, got one with something in it; choose another --out "
            "or remove it first"
        )


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file."""
    with path.open("x", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")


def remove_litter(parent: Path, name: str) -> None:
    """Remove what dead processes that wrote the same folder have left."""
    pattern = re.compile(re.escape(f"{TEMPORARY}{name}-") + r"(\d+)")
    for path in parent.iterdir():
        found = pattern.fullmatch(path.name)
        if found and is_of_a_dead_process(path, int(found[1])):
            shutil.rmtree(path, ignore_errors=True)
