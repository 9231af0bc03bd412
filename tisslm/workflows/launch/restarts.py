"""Starting a run's ranks, and, after a fault, starting them again from the last checkpoint."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tisslm.checkpoint.finding import list_checkpoints
from tisslm.checkpoint.naming import step_of
from tisslm.config import RunConfig
from tisslm.errors import ConfigError
from tisslm.registry import load_registry
from tisslm.system.launched import Note
from tisslm.system.launcher import COMMUNICATOR
from tisslm.training.interruption import EXIT_CODE
from tisslm.workflows.launch.asking import Asking
from tisslm.workflows.launch.job import INTERRUPTED, Ended, run_job
from tisslm.workflows.launch.libmpi import MPI, find_mpi
from tisslm.workflows.launch.ranks import count_ranks

__all__ = ["launch"]

#: Ends that another start would not change: done; usage, configuration, numbers that are not
#: finite; saved, and asked to end.
_NO_FAULTS = frozenset({0, 2, 3, 4, EXIT_CODE, INTERRUPTED})

#: Restarts in a row that may come to no newer checkpoint.
_IN_VAIN = 2

#: Seconds of the longest pause, and of a life after which pauses begin anew.
_LONGEST = 60.0
_HEALTHY = 600.0


class _Start(Protocol):
    def __call__(self, arguments: list[str]) -> Ended: ...


def launch(
    config: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    *,
    ranks: int | None = None,
    resume: str | None = None,
    max_restarts: int = 0,
    pause: float = 1.0,
    announce: Callable[[str], object] = lambda line: None,
    watch: Callable[[int], object] | None = None,
) -> int:
    """Train a run on several ranks of this machine, as ``tisslm train`` does on one.

    What the ranks print goes to this process's standard streams. In the main thread, signals that
    ask a run to end are handed on to the ranks, so that it saves and leaves.

    Parameters
    ----------
    config : path, optional
        A TOML file; left out, the run that comes with TissLM.
    overrides : iterable of str
        ``"section.key=value"``, as after ``--set``.
    ranks : int, optional
        One for each NUMA node, if left out. One rank needs no MPI.
    resume : str, optional
        ``"auto"`` or a path, as ``--resume``.
    max_restarts : int
        How often the ranks are started again after a fault: one of them was killed, crashed, stood
        still, was cut off, or failed with an error of files or of the program.
    pause : float
        Seconds before the first restart; each takes twice as long, up to a minute.
    announce : callable
        Is told in one line what is not an error of this process.
    watch : callable, optional
        Is told the id of each process that starts the ranks.

    Returns
    -------
    int
        The exit code: 0 when the run is complete, 75 when it is saved and wants to be started
        again, 130 when it was interrupted at once, otherwise that of the ranks.

    Raises
    ------
    ConfigError
        If the configuration is wrong, ranks are too many, or there is no MPI for them.
    PluginError
        If the plugin with their communicator is missing.
    """
    given = list(overrides)
    if max_restarts < 0:
        raise ConfigError(f"launch: expected max-restarts of 0 or more, got {max_restarts}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first rank tells them
        RunConfig.load(config, [*given, *([f"training.resume={resume}"] if resume else [])])
    count = count_ranks(ranks)
    arguments = ["train", *([] if config is None else [os.fspath(config)])]
    for override in given:
        arguments += ["--set", override]
    asking = Asking()
    with asking.armed():
        mpi = _find_mpi() if count > 1 else None
        restarts = _Restarts(
            arguments,
            resume,
            lambda line: run_job(line, count, mpi, asking, announce=announce, watch=watch),
            announce,
        )
        return restarts.run(asking, max_restarts, pause)


def _find_mpi() -> MPI:
    """Return the MPI of the ranks, if there is a communicator for them; else each would say so."""
    load_registry().part("communicator", COMMUNICATOR)
    return find_mpi()


@dataclass(frozen=True)
class _State:
    """What is known between two starts: what rank 0 told last, and how far the run had come."""

    note: Note | None = None
    step: int = -1
    in_vain: int = 0

    def after(self, note: Note | None, is_restart: bool) -> _State:
        note = note or self.note
        found = list_checkpoints(Path(note.checkpoints)) if note else []
        step = max((step_of(path.name) or 0 for path in found), default=-1)
        in_vain = self.in_vain + 1 if is_restart and step <= self.step else 0
        return replace(self, note=note, step=step, in_vain=in_vain)

    @property
    def place(self) -> str:
        """Where the run is."""
        return "the beginning" if self.step < 0 else f"checkpoint-{self.step}"


class _Restarts:
    def __init__(
        self,
        arguments: list[str],
        resume: str | None,
        start: _Start,
        announce: Callable[[str], object],
    ) -> None:
        self._arguments = arguments
        self._resume = resume
        self._start = start
        self._announce = announce

    def run(self, asking: Asking, limit: int, first_pause: float) -> int:
        """Start until an end is no fault, or it makes no sense any more."""
        state, pause, restarts = _State(), first_pause, 0
        while True:
            begun = time.monotonic()
            ended = self._start(self._line(state))
            state = state.after(ended.note, is_restart=restarts > 0)
            if ended.early:
                self._say_early(asking, state)
            if asking.by is not None or ended.code in _NO_FAULTS or not limit:
                if ended.who and asking.by is None:
                    self._announce(ended.why)  # the launcher of MPI knows it by its process alone
                return ended.code
            if restarts == limit or state.in_vain == _IN_VAIN:
                self._announce(_given_up(ended.why, restarts, state))
                return ended.code
            restarts += 1
            if time.monotonic() - begun > _HEALTHY:
                pause = first_pause
            self._announce(
                f"{ended.why}; restart {restarts} of at most {limit}, in {pause:g} s, goes on from "
                f"{state.place}"
            )
            asking.pause(pause)
            if asking.by is not None:
                self._say_early(asking, state)
                return EXIT_CODE
            pause = min(2 * pause, _LONGEST)

    def _line(self, state: _State) -> list[str]:
        """Return the arguments of the next start: once known, the run's own folder is named."""
        resume, more = self._resume, []
        if state.note is not None:
            more = ["--set", f"training.output_dir={json.dumps(state.note.run)}"]
            if state.step >= 0 or resume is None:
                resume = "auto"
        return [*self._arguments, *more, *([] if resume is None else ["--resume", resume])]

    def _say_early(self, asking: Asking, state: _State) -> None:
        name = asking.by.name if asking.by else "a signal"
        how = " with --resume auto goes on" if state.note is not None else " starts again"
        self._announce(f"{name}: stopped before training began; the same command{how}")


def _given_up(why: str, restarts: int, state: _State) -> str:
    reason = f"after {restarts} restart{'s' if restarts > 1 else ''}"
    if state.in_vain == _IN_VAIN:
        reason = f"because {_IN_VAIN} restarts in a row have not come beyond {state.place}"
    advice = "the same command with --resume auto goes on"
    return f"{why}; given up {reason}; when the cause is mended, {advice}"
