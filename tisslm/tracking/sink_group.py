"""What a run tells its observers: the metrics of a step, and the sinks that take them."""

from __future__ import annotations

import resource
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from tisslm.config import TrainingConfig
from tisslm.contracts import Histogram, RunInfo, Sink, Text
from tisslm.contracts.part_names import name_of
from tisslm.errors import SinkError
from tisslm.system.memory_limit import resident

__all__ = [
    "Rate",
    "SinkGroup",
    "is_logged",
    "is_monitored",
    "memory_metrics",
]

GIB = 2.0**30


class SinkGroup:
    """The sinks of a run: one that raises is named, closed and switched off, or ends the run.

    Parameters
    ----------
    sinks : iterable of Sink
    on_error : {"disable", "fail"}
        A run goes on without a sink that raises, with a warning ("disable"), or ends ("fail").
    """

    def __init__(self, sinks: Iterable[Sink], *, on_error: str = "disable") -> None:
        self._all = list(sinks)
        self._open: list[Sink] = []
        self._on_error = on_error

    def __iter__(self) -> Iterator[Sink]:
        return iter(self._all)

    def open(self, run: RunInfo) -> None:
        """Open every sink; one that cannot open stops the run before it starts."""
        for sink in self._all:
            sink.open(run)
            self._open.append(sink)

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Hand the metrics of a step to every sink: those of the kinds that it accepts.

        Raises
        ------
        SinkError
            If a sink raises, and the run is to end then.
        """

        def hand(sink: Sink) -> None:
            taken = {name: value for name, value in metrics.items() if _accepts(sink, value)}
            if taken:
                sink.write(step, taken)

        self._each(hand)

    def sync(self) -> None:
        """Wait until what every sink has written is on disk.

        Raises
        ------
        SinkError
            If a sink raises, and the run is to end then.
        """
        self._each(lambda sink: sink.sync())

    def _each(self, action: Callable[[Sink], None]) -> None:
        for sink in list(self._open):
            try:
                action(sink)
            except Exception as error:  # an observer must not cost a night of training
                self._open.remove(sink)
                with suppress(Exception):  # its threads and files go; the error is told below
                    sink.close()
                if self._on_error == "fail":
                    raise SinkError(
                        f"sink {name_of(sink)}: {type(error).__name__}: {error}. The run "
                        'ends, because training.on_sink_error = "fail"; "disable" goes on '
                        "without the sink"
                    ) from error
                self._warn(sink, "switched off", error)

    def close(self) -> None:
        """Close every sink that is still open."""
        while self._open:
            sink = self._open.pop()
            try:
                sink.close()
            except Exception as error:
                self._warn(sink, "not closed properly", error)

    def _warn(self, sink: Sink, what: str, error: Exception) -> None:
        warnings.warn(
            f"sink {name_of(sink)} is {what}: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=4,
        )


def _accepts(sink: Sink, value: object) -> bool:
    """Tell whether a sink takes a value; what is neither histogram nor text counts as a number."""
    kind = type(value) if isinstance(value, Histogram | Text) else float
    return kind in sink.accepts


class Rate:
    """Tokens per second of the last updates, and of all; what is between updates is left out."""

    WINDOW = 20

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float]] = deque(maxlen=self.WINDOW)
        self.tokens = 0
        self.seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Count one update."""
        self._recent.append((tokens, seconds))
        self.tokens += tokens
        self.seconds += seconds

    @property
    def recent(self) -> float:
        """Tokens per second of the last updates."""
        return sum(t for t, _ in self._recent) / sum(s for _, s in self._recent)

    @property
    def longest(self) -> float:
        """Seconds of the longest of the last updates, 0 before the first."""
        return max((s for _, s in self._recent), default=0.0)

    @property
    def overall(self) -> float | None:
        """Tokens per second of all updates, None before the first."""
        return self.tokens / self.seconds if self.seconds else None


def is_logged(step: int, config: TrainingConfig, last: int) -> bool:
    """Tell whether the sinks get the metrics of a step: every so many, and the last."""
    return step % config.logging_steps == 0 or step == last


def is_monitored(step: int, config: TrainingConfig, last: int) -> bool:
    """Tell whether the monitors look at a step: every so many, and the last."""
    return step % config.monitor_steps == 0 or step == last


def memory_metrics() -> dict[str, float]:
    """Return resident and peak resident memory of this process, in GiB."""
    now, peak = resident(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # The kernel brings the peak up to date now and then, so it may be behind.
    return {"memory/rss_gib": now / GIB, "memory/peak_rss_gib": max(now, peak) / GIB}
