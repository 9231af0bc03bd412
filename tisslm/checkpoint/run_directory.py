"""The directory of a run: its name, configuration, summary, and folder of checkpoints.

Which directory a run takes is decided in ``resume``.
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
from tisslm.checkpoint.run_files import CONFIG, ENVIRONMENT, METRICS, SUMMARY
from tisslm.config.metric_types import Metric
from tisslm.config.toml_text import dump_toml
from tisslm.errors import CheckpointError, ConfigError, RunDirectoryError
from tisslm.system.durable import replacing

__all__ = ["CONFIG", "ENVIRONMENT", "METRICS", "SUMMARY", "RunDirectory", "metrics_file"]

#: Free bytes that a directory needs before a run begins in it, for its small files.
ROOM = 8192


def metrics_file(directory: Path, config: Mapping[str, Any]) -> Path:
    """Return the path of a run's metrics.jsonl, as its configuration has it; it may not exist.

    Parameters
    ----------
    directory : Path
        The run directory.
    config : mapping
        The run's configuration as read from its file; a value that is no path is ignored.
    """
    log = config.get("log")
    options = log.get("jsonl") if isinstance(log, Mapping) else None
    path = options.get("path") if isinstance(options, Mapping) else None
    return directory / (path if isinstance(path, str) and path and "\0" not in path else METRICS)


class RunDirectory:
    """The directory that a run writes to, created at the first write.

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
        Whether the directory exists and belongs to this run.
    known : set of str
        Names of the checkpoints that were there when the run was opened, and of later ones.
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
        """Raise an error if the directory has no longer its name; called before writing by name.

        Raises
        ------
        RunDirectoryError
            If it was renamed, removed, or another one has its name.
        """
        if self._held is not None and not self._held.is_at(self.path):
            raise RunDirectoryError(
                f"{self.path}: the run directory was {self._fate()} while the run trained"
            )

    def confirm_checkpoints(self) -> Path:
        """Confirm the directory, and make the folder of checkpoints again if somebody removed it.

        By the handle, and not by name: another directory may be put in the place of this one at any
        moment, and nothing is to be left in it.

        Returns
        -------
        Path
            What is not to be made by name: that folder, or this directory if it lies elsewhere.

        Raises
        ------
        RunDirectoryError
            As ``confirm`` does.
        CheckpointError
            If the folder cannot be made.
        """
        self.confirm()
        if self._held is None or not self.checkpoints.is_relative_to(self.path):
            return self.path
        try:
            self._held.make(self.checkpoints.relative_to(self.path))
        except OSError as error:
            raise CheckpointError(
                f"{self.checkpoints}: could not be made again ({error.strerror}); make room, or "
                "choose another training.output_dir"
            ) from error
        return self.checkpoints

    def _fate(self) -> str:
        if self._held is not None and (now := self._held.find()) is not None:
            return f"renamed to {now}"
        return "replaced by another one" if os.path.lexists(self.path) else "removed"

    def recover(self) -> bool:
        """Follow a renamed directory, or create it anew; return whether either was possible.

        A directory that was put in its place belongs to somebody else, and is not touched.

        Raises
        ------
        ConfigError
            If it cannot be created.
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
        """Remove unfinished files of processes that were killed; only the owner may call it."""
        for folder, pattern in ((self.path, ".tmp-*"), (self.checkpoints, ".tmp-probe-*")):
            for path in folder.glob(pattern):
                with contextlib.suppress(OSError):
                    path.unlink()

    def refuse_strangers(self) -> None:
        """Raise an error if another process has saved here since the run was opened.

        Raises
        ------
        ConfigError
            If one has, because this run would then continue from an outdated state.
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
            with replacing(self.path / CONFIG) as file:
                file.write(dump_toml(settings).encode())
        except OSError as error:
            raise self._refusal(error) from error

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Write ``environment.json``; if the disk refuses it, warn and go on."""
        self._write_json(ENVIRONMENT, facts)

    def write_declared(self, metrics: Sequence[Metric]) -> None:
        """Write the metrics that parts declare, if there are any."""
        if metrics:
            self._write_json(DECLARED, plain_declarations(metrics))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``; if the disk refuses it, warn and go on."""
        self._write_json(SUMMARY, summary)

    def _write_json(self, name: str, facts: Mapping[str, Any]) -> None:
        try:
            with replacing(self.path / name) as file:
                file.write(f"{json.dumps(facts, indent=1)}\n".encode())
        except OSError as error:
            warnings.warn(
                f"{self.path / name} could not be written ({error.strerror})",
                RuntimeWarning,
                stacklevel=3,
            )


def _free_path(name: str) -> Path:
    """Return ``runs/<name>-<time>``, with a number if that exists."""
    base = Path("runs", f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path
