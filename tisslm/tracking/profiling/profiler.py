"""Which steps of a run are recorded, and what becomes of them.

One step is recorded by ``recorder``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from time import perf_counter

from tisslm import ops
from tisslm.contracts import Network
from tisslm.registry.discovery import tisslm_version
from tisslm.tracking.profiling.profile import Profile
from tisslm.tracking.profiling.recorder import Recorder
from tisslm.tracking.profiling.records import Span
from tisslm.tracking.profiling.regions import Regions
from tisslm.tracking.profiling.trace import write_trace

__all__ = ["TRACE", "WARM_UP", "Profiler"]

#: Name of the trace in the run directory.
TRACE = "trace.json"

#: Steps before those that are recorded: the first touch memory and load code.
WARM_UP = 3


class Profiler:
    """Records the steps after the first few of a run; all others cost the test of a number.

    Parameters
    ----------
    wanted : int
        Steps to record; 0 for none.
    left : int
        Steps that the run has to make. If they are few, fewer warm up and fewer are recorded.
    path : Path
        The path of the trace that is written.
    model : Network
        Announces the places of its passes.

    Attributes
    ----------
    profile : Profile or None
        The profile of the recorded steps; None before the first of them.
    """

    def __init__(self, wanted: int, left: int, path: Path, model: Network) -> None:
        self._wanted = min(wanted, left)
        self._wait = min(WARM_UP, left - self._wanted)
        self._path = path
        self._model = model
        self._recorder: Recorder | None = None
        self._seconds: list[float] = []
        self.profile: Profile | None = None

    def step(self, number: int) -> AbstractContextManager[None]:
        """Return a context for one step, which records it if it is its turn.

        A step that raises is not kept.

        Parameters
        ----------
        number : int
            The update that it is to make.
        """
        if not self._wanted:
            return nullcontext()
        return self._watched() if len(self._seconds) < self._wait else self._recorded(number)

    def span(self, name: str) -> AbstractContextManager[None]:
        """Return a context for a part of a step that no layer makes."""
        return nullcontext() if self._recorder is None else self._recorder.span(name)

    def note_exchanges(self, spans: Sequence[Span]) -> None:
        """Take what was exchanged with other ranks while the step was made."""
        if self._recorder is not None:
            self._recorder.note_exchanges(spans)

    def close(self) -> None:
        """Write what was recorded, if the run ends before all that was wanted is."""
        if self._wanted and self.profile is not None:
            self._finish(self.profile)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Take the time of a step before those that are recorded."""
        start = perf_counter()
        yield
        self._seconds.append(perf_counter() - start)

    @contextmanager
    def _recorded(self, number: int) -> Iterator[None]:
        threads = ops.thread_count().count
        with Regions(threads) as regions, ExitStack() as stack:
            stack.callback(setattr, self, "_recorder", None)
            self._recorder = recorder = Recorder(regions)
            stack.enter_context(self._model.observed(recorder))
            stack.enter_context(ops.watching(recorder))
            recorder.begin()
            yield
            step = recorder.end(number)
        if self.profile is None:
            self.profile = Profile(threads, _about(threads), plain=self._seconds[1:])
        self.profile.steps.append(step)
        if len(self.profile.steps) == self._wanted:
            self._finish(self.profile)

    def _finish(self, profile: Profile) -> None:
        """Write the trace; a disk that refuses it is told, and is no reason to fail."""
        self._wanted = 0
        try:
            write_trace(self._path, profile)
            profile.path = str(self._path)
        except OSError as error:
            warnings.warn(
                f"the trace of the profile could not be written to {self._path} "
                f"({error.strerror}); the run goes on",
                RuntimeWarning,
                stacklevel=2,
            )


def _about(threads: int) -> dict[str, object]:
    """Return what a trace should say of itself."""
    return {"made by": f"tisslm {tisslm_version()}", "threads": threads, **ops.engine()}
