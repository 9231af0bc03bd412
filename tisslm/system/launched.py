"""What ``tisslm launch`` and the first rank that it has started know of one another.

They share a folder, named in the environment. There the launcher lends its standard streams, and
the rank leaves a note: where the run is, and, at its end, that it is complete. An exit code cannot
say the latter, for a launcher of MPI may take the code 0 of a rank that has vanished for the job's.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from tisslm.errors import TissLMError
from tisslm.system.durable import replacing
from tisslm.system.launcher import find_launcher
from tisslm.system.strict_json import read_json

__all__ = ["FOLDER", "Lender", "Note", "leave_note", "read_note", "take_streams"]

#: Environment variable with the path of the folder.
FOLDER = "TISSLM_LAUNCH"

_NOTE = "note.json"
_LIMIT = 100_000
_STREAMS = "streams"
_PATIENCE = 10.0


@dataclass(frozen=True)
class Note:
    """What the first rank has told.

    Attributes
    ----------
    run, checkpoints : str
        The run directory, and the folder of its checkpoints.
    complete : bool
    """

    run: str
    checkpoints: str
    complete: bool = False


def _folder(environment: Mapping[str, str]) -> Path | None:
    """Return the folder that this process shares with the launcher, if it is the first rank."""
    path, launcher = environment.get(FOLDER, ""), find_launcher(environment)
    is_first = launcher is None or launcher.rank == 0
    return Path(path) if path and is_first and Path(path).is_dir() else None


def leave_note(note: Note, environment: Mapping[str, str] = os.environ) -> None:
    """Tell the launcher, if there is one and this is the first rank; a full disk is no error.

    Parameters
    ----------
    note : Note
    environment : mapping, optional
    """
    folder = _folder(environment)
    if folder is not None:
        with contextlib.suppress(OSError), replacing(folder / _NOTE) as file:
            file.write(json.dumps(asdict(note)).encode())


def read_note(folder: Path) -> Note | None:
    """Return what the first rank has told, None if nothing yet."""
    try:
        found = read_json(folder / _NOTE, _LIMIT)
        return Note(str(found["run"]), str(found["checkpoints"]), found["complete"] is True)
    except (TissLMError, KeyError):
        return None


@final
class Lender:
    """Hands this process's standard output and standard error to the first rank, as they are.

    A launcher of MPI has ranks write to pipes, or to a terminal of its own. With these streams, the
    first one writes as if it had been started by itself: to the same terminal, file or pipe.

    Parameters
    ----------
    folder : Path
        The shared folder.
    """

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        self._asked: list[socket.socket] = []
        with contextlib.suppress(OSError):  # a path that is too long: the rank keeps its own
            self._socket.bind(str(folder / _STREAMS))
            self._socket.listen(1)
            self._asked.append(self._socket)

    def lend(self, patience: float, beside: Sequence[int] = ()) -> list[int]:
        """Wait for a rank that asks, and for no longer than some seconds.

        Parameters
        ----------
        patience : float
        beside : sequence of int
            Other handles that end the wait when they are ready to be read.

        Returns
        -------
        list of int
            Those of ``beside`` that are.
        """
        handles = [asked.fileno() for asked in self._asked]
        ready = select.select([*handles, *beside], [], [], patience)[0]
        with contextlib.suppress(OSError):
            connection, _ = self._socket.accept()
            with connection:
                socket.send_fds(connection, [b"\0"], [1, 2])
        return [handle for handle in ready if handle in beside]

    def close(self) -> None:
        """Lend nothing any more."""
        self._socket.close()


def take_streams(environment: Mapping[str, str] = os.environ) -> None:
    """Write to what the launcher lends, if this is the first rank that one has started."""
    folder = _folder(environment)
    if folder is None:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_PATIENCE)
        asking.connect(str(folder / _STREAMS))
        _, handles, _, _ = socket.recv_fds(asking, 1, 2)
        for handle, own in zip(handles, (1, 2), strict=True):
            os.dup2(handle, own)
            os.close(handle)
