"""The sink ``tensorboard``: event files in the run directory.

The format of the events is in ``events``.

References
----------
TensorBoard, https://www.tensorflow.org/tensorboard
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, final

from tisslm.contracts import Histogram, RunInfo, Sink, Text
from tisslm.contracts.sink_files import open_error, write_error
from tisslm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tisslm_tensorboard.events import EventFile

__all__ = ["TensorBoardSink"]


@final
class TensorBoardSink(Sink):
    """Write numbers, histograms and texts where TensorBoard reads them.

    ``tensorboard --logdir runs`` then shows every run by the name of its directory. Numbers are
    rounded to float32, as TensorBoard keeps them; histograms have the very bins that the monitor
    made, texts are as they are. An event is on its way to the disk when ``write`` returns, and
    there is no thread.

    Each session of a run has a file of its own. One that resumes at step s says so in it, and
    TensorBoard forgets what older files of the folder say of later steps; a new run makes it
    forget all of them. The files stay.

    Parameters
    ----------
    path : str or path, default "."
        The folder of the event files, relative to the run directory.
    """

    accepts = frozenset({float, Histogram, Text})

    def __init__(self, *, path: str | os.PathLike[str] = ".") -> None:
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        if not isinstance(text, str) or not text or "\0" in text:
            raise ConfigError(
                "sink tensorboard: path: expected a folder relative to the run directory, got "
                f"{path!r}"
            )
        self._name = text
        self._path = Path()
        self._file: EventFile | None = None

    def open(self, run: RunInfo) -> None:
        """Create a file; that of a new run begins with the configuration, as a text.

        Raises
        ------
        ConfigError
            If the file cannot be created.
        """
        from tisslm_tensorboard.events import EventFile, file_name

        self.close()
        folder = run.directory / self._name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path = folder / file_name(folder)
            first = run.resumed_step + 1 if run.resumed_step > 0 else 0
            self._file = EventFile(self._path, first)
            if first == 0:
                settings = json.dumps(run.config, indent=2, default=str, ensure_ascii=False)
                self._file.write(0, {"config": Text(f"```json\n{settings}\n```")})
        except OSError as error:
            raise open_error("tensorboard", folder, error) from None

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Append one event.

        Raises
        ------
        DataError
            If the sink does not accept the type of a metric, or the file can no longer be written.
        """
        try:
            self._opened().write(step, metrics)
        except OSError as error:
            raise write_error("tensorboard", self._path, error) from None

    def sync(self) -> None:
        """Wait until the file is on disk.

        Raises
        ------
        DataError
            If the file can no longer be written.
        """
        try:
            self._opened().sync()
        except OSError as error:
            raise write_error("tensorboard", self._path, error) from None

    def close(self) -> None:
        """Close the file, in which everything has been written."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # write has reported it
                self._file.close()
            self._file = None

    def _opened(self) -> EventFile:
        if self._file is None:
            raise DataError("sink tensorboard: it is not open; call open first")
        return self._file
