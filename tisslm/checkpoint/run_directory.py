"""The directory of a run: its name, its configuration, its summary, its checkpoints' folder.

What does not live here: which directory a run takes (``resume``), what a checkpoint contains,
and the metrics that sinks write.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tisslm.checkpoint import list_checkpoints
from tisslm.checkpoint.declared_metrics import DECLARED, plain_declarations
from tisslm.checkpoint.held_directory import HeldDirectory
from tisslm.config.metric_types import Metric
from tisslm.config.toml_text import dump_toml
from tisslm.errors import ConfigError, RunDirectoryError

__all__ = ["CONFIG", "ENVIRONMENT", "SUMMARY", "RunDirectory", "metrics_file"]

#: What the sink ``jsonl`` calls its file.
METRICS = "metrics.jsonl"

CONFIG = "config.resolved.toml"
SUMMARY = "summary.json"
ENVIRONMENT = "environment.json"

#: Bytes that a directory must take before a run begins in it: its small files.
ROOM = 8192


def metrics_file(directory: Path, config: Mapping[str, Any]) -> Path:
    """Return where the sink ``jsonl`` of a run writes, which may not be there.

    Parameters
    ----------
    directory : Path
        Of the run.
    config : mapping
        Its configuration as a file has it; what is no path in it is not believed.
    """
    log = config.get("log")
    options = log.get("jsonl") if isinstance(log, Mapping) else None
    path = options.get("path") if isinstance(options, Mapping) else None
    return directory / (path if isinstance(path, str) and path and "\0" not in path else METRICS)


class RunDirectory:
    """Where a run writes; made at the first write.

    Parameters
    ----------
    path : str or Path
        "" means ``runs/<name>-<time>``.
    name : str
    checkpoint_dir : str
        Relative to the run directory.

    Attributes
    ----------
    made : bool
        Whether it is there and this run's.
    known : set of str
        The checkpoints that were there when the run was opened, and those it has written.
    """

    def __init__(self, path: str | Path, name: str, checkpoint_dir: str = "checkpoints") -> None:
        self._chosen = bool(str(path))
        self.made = False
        self._held: HeldDirectory | None = None
        self.name = name
        self.checkpoint_dir = checkpoint_dir
        self.path = Path(path) if self._chosen else _free_path(name)
        self.known = {found.name for found in list_checkpoints(self.checkpoints)}

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / self.checkpoint_dir

    def make(self) -> None:
        """Create the directory.

        Raises
        ------
        ConfigError
            If it cannot be created or written.
        """
        try:
            while not self._chosen:  # another run may take the same name in the same second
                try:
                    self.path.mkdir(parents=True)
                    self._chosen = True
                except FileExistsError:
                    self.path = _free_path(self.name)
            for folder in (self.path, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".tmp-probe-{os.getpid()}"
                try:
                    probe.write_bytes(bytes(ROOM))
                finally:
                    probe.unlink(missing_ok=True)
            self._held = HeldDirectory(self.path)
            self.made = True
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> ConfigError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return ConfigError(
            f"training.output_dir: {str(self.path)!r} cannot be written ({error.strerror}); "
            f"choose another directory or {'make room' if full else 'mend its permissions'}"
        )

    def confirm(self) -> None:
        """Make sure that the directory still has its name: who writes by names asks before.

        Raises
        ------
        RunDirectoryError
            If it was renamed, removed, or another one has its name.
        """
        if self._held is not None and not self._held.is_at(self.path):
            raise RunDirectoryError(
                f"{self.path}: the run directory was {self._fate()} while the run trained"
            )

    def _fate(self) -> str:
        if self._held is not None and (now := self._held.find()) is not None:
            return f"renamed to {now}"
        return "replaced by another one" if os.path.lexists(self.path) else "removed"

    def recover(self) -> bool:
        """Go where the directory is now, or make it anew; tell whether either can be done.

        What is found in its place is another's, and is left as it is.

        Raises
        ------
        ConfigError
            If it cannot be made.
        """
        now = None if self._held is None else self._held.find()
        if now is not None:
            self.path = now
        elif os.path.lexists(self.path):
            return False
        else:
            self.make()
        return True

    def clean(self) -> None:
        """Remove what processes that were killed have left half written; the owner may."""
        for folder, pattern in ((self.path, ".tmp-*"), (self.checkpoints, ".tmp-probe-*")):
            for path in folder.glob(pattern):
                with contextlib.suppress(OSError):
                    path.unlink()

    def refuse_strangers(self) -> None:
        """Make sure that no other process has saved here since the run was opened.

        Raises
        ------
        ConfigError
            If one has: this run would go on from a state that is out of date.
        """
        found = {path.name for path in list_checkpoints(self.checkpoints)} - self.known
        if found:
            raise ConfigError(
                f"{self.path}: another trainer has written {', '.join(sorted(found))} since this "
                "one looked for the state to go on from; start again"
            )

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Write ``config.resolved.toml``.

        Raises
        ------
        ConfigError
            If the disk refuses it.
        """
        try:
            _write_whole(self.path / CONFIG, dump_toml(settings))
        except OSError as error:
            raise self._refusal(error) from error

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Write ``environment.json``; a disk that refuses it is told, and is no reason to fail."""
        self._write_json(ENVIRONMENT, facts)

    def write_declared(self, metrics: Sequence[Metric]) -> None:
        """Write what parts declare of their metrics, if they do, for those who look later."""
        if metrics:
            self._write_json(DECLARED, plain_declarations(metrics))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``; a disk that refuses it is told, and is no reason to fail."""
        self._write_json(SUMMARY, summary)

    def _write_json(self, name: str, facts: Mapping[str, Any]) -> None:
        try:
            _write_whole(self.path / name, json.dumps(facts, indent=1) + "\n")
        except OSError as error:
            warnings.warn(
                f"{self.path / name} could not be written ({error.strerror})",
                RuntimeWarning,
                stacklevel=3,
            )


def _free_path(name: str) -> Path:
    """Return ``runs/<name>-<time>``, numbered if that exists."""
    base = Path("runs", f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


def _write_whole(path: Path, text: str) -> None:
    """Replace a file by rename, so that a reader sees the old or the new one."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
