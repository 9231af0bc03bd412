"""The directory of a run, the checkpoint that it resumes from, and which checkpoints it keeps."""

from __future__ import annotations

import contextlib
import glob
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tisslm.checkpoint import Found, Retention, find, find_newest, list_checkpoints
from tisslm.checkpoint.run_directory import CONFIG, SUMMARY, RunDirectory
from tisslm.config import TrainingConfig
from tisslm.config.durations import KEYS as DURATIONS
from tisslm.config.metric_types import Metric
from tisslm.config.metrics import resolve_mode
from tisslm.config.toml_text import dump_toml
from tisslm.errors import CheckpointError, ConfigError
from tisslm.system.safe_files import CHECKPOINT
from tisslm.system.strict_toml import read_toml

__all__ = ["find_run", "keeping", "known_folder", "open_run", "was_begun"]

#: Keys of ``[training]`` that may differ between a run and the one that resumes it.
_NOT_COMPARED = (
    "resume",
    "resume_from",
    "keep_checkpoints",
    "keep_best",
    "keep_every",
    "best_metric",
    "best_mode",
    "output_dir",
    "threads",
    "activation_checkpointing",
    "memory_limit",
    "max_time",
    "on_save_error",
    "async_save",
    "monitor_steps",
    "on_sink_error",
    "sample_every",
    "sample_prompts",
    "sample_tokens",
    "early_stopping_patience",
    "early_stopping_min_delta",
    "restore_best",
    "profile_steps",
    "rank_check_steps",
    "stall_timeout",
)


def open_run(
    config: TrainingConfig, settings: Mapping[str, Any]
) -> tuple[RunDirectory, Found | None]:
    """Return the directory of a run, and the checkpoint that it resumes from, if any.

    A run without ``output_dir`` that resumes writes to the directory that its checkpoint lies in.

    Parameters
    ----------
    config : TrainingConfig
    settings : mapping
        The resolved configuration, by which ``resume="auto"`` recognizes a run.

    Raises
    ------
    CheckpointError
        If the checkpoint that ``resume`` names is not there or damaged, or the run has
        checkpoints and none that verifies.
    ConfigError
        If ``resume="auto"`` would begin a run anew although it has checkpoints in another folder.
    """
    target, folder = config.resume_target, known_folder(config, settings)
    saved: Found | None = None
    if target and target != "auto":
        saved = find(target)
        below = Path(config.checkpoint_dir).parts
        inside = saved.path.parts[-1 - len(below) : -1] == below
        if not folder and inside and not Path(config.checkpoint_dir).is_absolute():
            folder = str(saved.path.parents[len(below)])
    run = RunDirectory(folder, config.name, config.checkpoint_dir)
    if target == "auto":
        saved = find_newest(run.checkpoints)
        if saved is None:
            _refuse_new_folder(run)
    return run, saved


def _refuse_new_folder(run: RunDirectory) -> None:
    """Raise an error if a run without a checkpoint had checkpoints in another folder before."""
    try:
        found = read_toml(run.path / CONFIG, CHECKPOINT).get("training")
    except CheckpointError:
        return
    before = found.get("checkpoint_dir") if isinstance(found, dict) else None
    if not isinstance(before, str) or before == run.checkpoint_dir:
        return
    if list_checkpoints(run.path / before):
        raise ConfigError(
            f"training.checkpoint_dir: {run.path} has its checkpoints in {before!r} and none in "
            f"{run.checkpoint_dir!r}: nothing to go on from; keep {before!r}, or choose another "
            "training.output_dir to start anew"
        )


def known_folder(config: TrainingConfig, settings: Mapping[str, Any]) -> str:
    """Return the directory of a run if it is known before a checkpoint is read, otherwise "".

    Parameters
    ----------
    config : TrainingConfig
    settings : mapping
        The resolved configuration.
    """
    if config.output_dir or config.resume_target != "auto":
        return config.output_dir
    found = find_run(config.name, settings, config.checkpoint_dir)
    return "" if found is None else str(found)


def keeping(config: TrainingConfig, evaluates: bool, own: Sequence[Metric] = ()) -> Retention:
    """Return which checkpoints a run keeps.

    Parameters
    ----------
    config : TrainingConfig
    evaluates : bool
        Whether the run has validation data.
    own : sequence of Metric
        The metrics that the parts of the run declare.

    Raises
    ------
    ConfigError
        If the best are to be kept by a metric that the run does not have.
    """
    key = "keep_best" if config.keep_best else "restore_best"
    wanted = config.keep_best or config.restore_best
    if wanted and config.best_metric.startswith("eval/") and not evaluates:
        raise ConfigError(
            f"training.{key}: expected validation data to compute {config.best_metric}, got "
            'none; give some, or set training.best_metric = "train/loss"'
        )
    return Retention(
        newest=config.keep_checkpoints,
        best=max(config.keep_best, int(config.restore_best)),
        every=config.keep_every,
        metric=config.best_metric,
        mode=resolve_mode(config.best_metric, config.best_mode, own),
    )


def find_run(name: str, settings: Mapping[str, Any], checkpoint_dir: str) -> Path | None:
    """Return the newest run in ``runs/`` with this name and configuration that has a checkpoint.

    If none has a checkpoint, the newest such run that was interrupted before its first one is
    returned.

    Parameters
    ----------
    name : str
    settings : mapping
        The resolved configuration. Keys that say where a run resumes from or writes to are not
        compared.
    checkpoint_dir : str
    """
    wanted, empty = _comparable(settings), None
    for path in _newest_first(Path("runs").glob(f"{glob.escape(name)}-*")):
        try:
            found = read_toml(path / CONFIG, CHECKPOINT)
        except CheckpointError:
            continue
        if _comparable(found) == wanted:
            if list_checkpoints(path / checkpoint_dir):
                return path
            empty = empty or path
    return empty


def was_begun(run: RunDirectory, settings: Mapping[str, Any]) -> bool:
    """Return True if a run of this configuration was killed in a directory before a checkpoint.

    Parameters
    ----------
    run : RunDirectory
        A run that ended by itself has a summary, and gives False.
    settings : mapping
        The resolved configuration, compared as ``find_run`` does.
    """
    if list_checkpoints(run.checkpoints) or (run.path / SUMMARY).exists():
        return False
    try:
        return _comparable(read_toml(run.path / CONFIG, CHECKPOINT)) == _comparable(settings)
    except CheckpointError:
        return False


def _newest_first(paths: Iterator[Path]) -> list[Path]:
    """Sort run directories by the time at which each was last begun."""
    times = {}
    for path in paths:
        with contextlib.suppress(OSError):
            times[path] = ((path / CONFIG).stat().st_mtime, path.name)
    return sorted(times, key=times.__getitem__, reverse=True)


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = tomllib.loads(dump_toml(settings))
    training = plain.get("training", {})
    for key in _NOT_COMPARED:
        training.pop(key, None)
    for key in plain.get("durations", {}):  # whose steps are known when the data are read
        plain.get(DURATIONS[key], {}).pop(key, None)
    plain.get("data", {}).pop("verify", None)
    return plain
