"""Checkpoints: one directory per step, written aside and renamed when it is complete.

``checkpoint-N/`` holds ``model.safetensors``, ``config.json`` (the model's shape),
``optimizer.safetensors``, ``trainer_state.json`` and, when the run has one, ``tokenizer.json``.
Arrays are safetensors and everything else is JSON; nothing is ever unpickled.

What does not live here: what the states mean; their owners write and read them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.errors import CheckpointError, PluginError
from tisslm.registry import Registry
from tisslm.tensor_files import TensorFile, kind_of, write_arrays
from tisslm.untrusted import read_json

__all__ = [
    "Checkpoint",
    "check_parameters",
    "check_same",
    "list_checkpoints",
    "prune",
    "read",
    "resolve",
    "set_aside",
    "tokenizer_state",
    "write",
]

Array = NDArray[Any]

_NAME = re.compile(r"checkpoint-(\d+)")
_FOUNDING_NAME = re.compile(r"checkpoint_step_(\d+)(\.bin)?")
_TEMPORARY = ".tmp-"

# What JSON files may have; the state has one loss for every update of the run.
_CONFIG_BYTES = 2**20
_STATE_BYTES = 2**29
_STATE_VALUES = 2**24


@dataclass
class Checkpoint:
    """Everything that a run needs to go on.

    Attributes
    ----------
    model : dict of str to ndarray
        Parameters by name.
    model_config : dict
    optimizer : dict of str to ndarray
    trainer : dict
        Plain JSON values: step, epoch, seed, loss history and the states of stateful parts.
    tokenizer : dict or None
        ``{"name": ..., "state": ...}``.
    """

    model: Mapping[str, Array]
    model_config: Mapping[str, Any]
    optimizer: Mapping[str, Array] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] | None = None


# --------------------------------------------------------------------------- writing


def write(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write ``folder/checkpoint-<step>``; an old one of that name is replaced at the end.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    step : int
    checkpoint : Checkpoint

    Returns
    -------
    Path
        The checkpoint's directory.

    Raises
    ------
    CheckpointError
        If the directory cannot be written; what was there before is untouched.
    """
    target = folder / f"checkpoint-{step}"
    temporary = folder / f"{_TEMPORARY}checkpoint-{step}-{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a process killed with the same id
        temporary.mkdir(parents=True)
        _write_arrays(temporary / "model.safetensors", checkpoint.model)
        _write_json(temporary / "config.json", checkpoint.model_config)
        _write_arrays(temporary / "optimizer.safetensors", checkpoint.optimizer)
        _write_json(temporary / "trainer_state.json", checkpoint.trainer)
        if checkpoint.tokenizer is not None:
            _write_json(temporary / "tokenizer.json", checkpoint.tokenizer)
        _sync(temporary)
        _replace(temporary, target)
        _sync(folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not _is_failed_write(error):
            raise
        raise CheckpointError(
            f"{target}: the checkpoint could not be written ({error}); earlier checkpoints are "
            "untouched. Free space or choose another output_dir"
        ) from error
    return target


def _is_failed_write(error: BaseException) -> bool:
    """Tell a disk's error from a mistake in what was to be written."""
    return isinstance(error, OSError)


def _write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    write_arrays(path, arrays)
    _sync(path)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
    _sync(path)


def _sync(path: Path) -> None:
    """Wait until a file or a directory's entries are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(new: Path, target: Path) -> None:
    """Rename a complete directory to its name; a directory that is there steps aside first."""
    if not target.exists():
        new.rename(target)
        return
    old = target.with_name(f"{_TEMPORARY}old-{target.name}-{os.getpid()}")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def set_aside(folder: Path, step: int) -> list[Path]:
    """Rename the checkpoints later than ``step``, which a run that starts there will not pass.

    They are of another run in the same directory, or of a future that is being replaced. Nothing
    is deleted: ``checkpoint-N`` becomes ``superseded-checkpoint-N``, numbered if that exists.

    Returns
    -------
    list of Path
        The new names.
    """
    moved = []
    for number, path in sorted(_numbered(folder)):
        if number > step:
            target, count = path.with_name(f"superseded-{path.name}"), 2
            while target.exists():
                target = path.with_name(f"superseded-{path.name}-{count}")
                count += 1
            moved.append(path.rename(target))
    return moved


def prune(folder: Path, keep: int, written: Path) -> None:
    """Delete all but the ``keep`` newest checkpoints of a folder (0 keeps all).

    Each is renamed first, so that one half deleted never looks like a checkpoint. ``written``,
    the newest in time, stays whatever its number.
    """
    if keep == 0:
        return
    others = [path for path in list_checkpoints(folder) if path != written]
    for path in others[: len(others) - keep + 1]:
        doomed = path.with_name(f"{_TEMPORARY}old-{path.name}")
        with contextlib.suppress(OSError):  # a leftover costs space, never the run
            path.rename(doomed)
            shutil.rmtree(doomed)


def tokenizer_state(tokenizer: Tokenizer | None, registry: Registry) -> dict[str, Any] | None:
    """Describe a tokenizer by its registered name; None if there is none, or none of that class."""
    if tokenizer is None:
        return None
    for part in registry.entries("tokenizer"):
        with contextlib.suppress(PluginError):  # a broken plugin is not the one in use
            if part.load() is type(tokenizer):
                return {"name": part.entry.name, "state": tokenizer.state()}
    warnings.warn(
        f"the checkpoint is written without its tokenizer: {type(tokenizer).__name__} has no "
        "registered name. Register it as a plugin to generate text from the checkpoint",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


# --------------------------------------------------------------------------- finding


def _numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    if folder.is_dir():
        for path in folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and (path / "trainer_state.json").is_file():
                yield int(match[1]), path


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest step first."""
    return [path for _, path in sorted(_numbered(folder))]


def resolve(path: str | Path) -> Path:
    """Find the checkpoint that a path means.

    Parameters
    ----------
    path : str or Path
        A checkpoint, a folder of checkpoints, a run directory (the newest is taken), or the
        founding name ``checkpoint_step_N.bin``, which stands for ``checkpoint-N``.

    Raises
    ------
    CheckpointError
        If there is no checkpoint.
    """
    path = Path(path)
    founding = _FOUNDING_NAME.fullmatch(path.name)
    if founding and not path.exists():
        path = path.with_name(f"checkpoint-{founding[1]}")
    if (path / "trainer_state.json").is_file():
        return path
    for folder in (path, path / "checkpoints", path / _configured_folder(path)):
        found = list_checkpoints(folder)
        if found:
            return found[-1]
    what = "holds no checkpoint" if path.is_dir() else "no such checkpoint"
    raise CheckpointError(
        f"{path}: {what}; give a directory checkpoint-N, or a run directory that contains one"
    )


def _configured_folder(run: Path) -> str:
    """Return ``training.checkpoint_dir`` of a run directory, or nothing."""
    try:
        text = (run / "config.resolved.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["training"]["checkpoint_dir"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


# --------------------------------------------------------------------------- reading


def read(path: str | Path, *, optimizer: bool = True) -> Checkpoint:
    """Read the checkpoint that ``resolve`` finds.

    Parameters
    ----------
    path : str or Path
    optimizer : bool
        Whether to read the optimizer's state, twice the model's size, too.

    Returns
    -------
    Checkpoint
        Its arrays are mapped from the files when they are asked for.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged.
    """
    folder = resolve(path)
    tokenizer = folder / "tokenizer.json"
    return Checkpoint(
        model=TensorFile(folder / "model.safetensors"),
        model_config=read_json(folder / "config.json", _CONFIG_BYTES),
        optimizer=TensorFile(folder / "optimizer.safetensors") if optimizer else {},
        trainer=read_json(folder / "trainer_state.json", _STATE_BYTES, max_values=_STATE_VALUES),
        tokenizer=read_json(tokenizer, _STATE_BYTES) if tokenizer.exists() else None,
    )


def check_parameters(target: Mapping[str, Array], source: Mapping[str, Array], where: str) -> None:
    """Check that arrays of a checkpoint have the names, shapes and types of the model's.

    Raises
    ------
    CheckpointError
        If any differs.
    """
    missing = sorted(set(target) - set(source))
    unexpected = sorted(set(source) - set(target))
    if missing or unexpected:
        raise CheckpointError(
            f"{where}: made for another model: it lacks {missing[:3] or 'nothing'} and has "
            f"{unexpected[:3] or 'nothing'} besides. Use the configuration it was made with"
        )
    for name, array in target.items():
        shape, dtype = kind_of(source, name)
        if shape != array.shape or dtype != array.dtype:
            raise CheckpointError(
                f"{where}: parameter {name}: expected shape {array.shape} {array.dtype}, got "
                f"{shape} {dtype}. Use the configuration that the checkpoint was made with"
            )


def check_same(found: Checkpoint, own: Checkpoint, where: str) -> None:
    """Check that a checkpoint was made with the same model and tokenizer.

    Dropout may differ: it is no part of what the parameters mean.

    Raises
    ------
    CheckpointError
        If a size or option of the model, a parameter, or the tokenizer differs.
    """
    for key, value in own.model_config.items():
        saved = found.model_config.get(key, value)
        if saved != value and key != "dropout":
            raise CheckpointError(
                f"{where}: made with model.{key} = {saved!r}, this model has {value!r}. "
                "Use the configuration that the checkpoint was made with"
            )
    if None not in (own.tokenizer, found.tokenizer) and own.tokenizer != found.tokenizer:
        raise CheckpointError(
            f"{where}: made with another tokenizer, or one of another text, so that ids mean "
            "other things. Resume on the text and with the tokenizer of the run"
        )
    check_parameters(own.model, found.model, where)
