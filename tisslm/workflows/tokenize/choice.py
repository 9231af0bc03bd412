"""Resolving the option ``--tokenizer``: a file, a folder with a tokenizer, or a registered name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tisslm.contracts import Tokenizer
from tisslm.datasets.shard_format import MAX_JSON, MAX_VALUES
from tisslm.datasets.shards import BPE_FILE, STATE_FILE
from tisslm.datasets.sources import BadRecords, ReadOptions
from tisslm.errors import ConfigError, DataError
from tisslm.registry import Registry
from tisslm.system.safe_files import Refusal, RegularFile
from tisslm.system.strict_json import parse_json
from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.workflows.tokenize.parts import read_parts

__all__ = ["choose_tokenizer", "load_tokenizer"]

_NO_STATE = Refusal(
    DataError,
    "expected a tokenizer's name and state as JSON, got something else",
    "make it again",
)


def choose_tokenizer(
    choice: str,
    chosen: Mapping[str, object],
    paths: Sequence[Path],
    options: ReadOptions,
    registry: Registry,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[str, Tokenizer]:
    """Return the tokenizer that ``--tokenizer`` stands for, and its registered name.

    Parameters
    ----------
    choice : str
        A ``tokenizer.json``, a folder with one or with a ``tokenizer_state.json`` (token shards, a
        checkpoint, a Hugging Face folder), or a registered name.
    chosen : mapping of str to object
        Options of a tokenizer that is chosen by name.
    paths : sequence of Path
        The texts on which a tokenizer is trained, if it has to be; they are read again later.
    options : ReadOptions
    registry : Registry
    progress : callable
        Called with each part of the text while it is read.

    Raises
    ------
    ConfigError, DataError, PluginError
        If the file is no tokenizer, or the name is unknown or does not take an option.
    """
    path = Path(choice)
    if path.exists() or path.suffix == ".json" or len(path.parts) > 1:
        if chosen:
            raise ConfigError(
                f"--tokenizer-option: expected none for {choice}, whose file says all, got "
                f"{', '.join(chosen)}; leave them out"
            )
        return load_tokenizer(path, registry)

    bad = BadRecords(options.bad.policy, quiet=True)  # told of when the text is encoded

    def texts() -> Iterator[str]:
        for part in read_parts(paths, replace(options, bad=bad)):
            progress(part.text)
            yield part.text

    if choice == "bpe" and not {"path", "vocab_size"} & set(chosen):
        raise ConfigError(
            "--tokenizer bpe: expected a trained tokenizer; make one with tisslm tokenizer train "
            "TEXT --vocab-size N, and name its file: --tokenizer tokenizer.json"
        )
    made: Tokenizer = registry.build("tokenizer", (choice, dict(chosen)), texts(), via="from_texts")
    return choice, made


def load_tokenizer(path: Path, registry: Registry) -> tuple[str, Tokenizer]:
    """Return registered name and tokenizer of a file, or of a folder that has one.

    Raises
    ------
    DataError
        If there is none, or it cannot be used.
    """
    if not path.is_dir():
        return "bpe", BpeTokenizer(path=path)
    saved = path / STATE_FILE
    if not saved.is_file():
        if (path / BPE_FILE).is_file():
            return "bpe", BpeTokenizer.from_folder(path)
        raise DataError(
            f"{path}: expected a folder with a {BPE_FILE} or a {STATE_FILE}, found none; name a "
            "tokenizer.json"
        )
    content = _object(saved)
    name, state = content.get("name"), content.get("state")
    if not isinstance(name, str) or not isinstance(state, dict):
        raise _NO_STATE(saved, "no name or no state")
    if name == "bpe" and (path / BPE_FILE).is_file():  # a checkpoint's, which says it once
        state.setdefault("tokenizer", _object(path / BPE_FILE))
    made: Tokenizer = registry.get("tokenizer", name).from_state(state)
    return name, made


def _object(path: Path) -> dict[str, Any]:
    with RegularFile(path, _NO_STATE, follow=True) as file:
        return parse_json(file.read(MAX_JSON), path, _NO_STATE, max_values=MAX_VALUES)
