"""The sink ``console``: a progress bar on a terminal, plain lines elsewhere.

What does not live here: the words (``_line``) and the bar (``_bar``).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TextIO, final

from tisslm.contracts import RunInfo, Sink
from tisslm.errors import ConfigError
from tisslm.sinks._line import describe, describe_evaluation, position

if TYPE_CHECKING:
    from tisslm.sinks._bar import Bar

__all__ = ["ConsoleSink"]

_STYLES = ("auto", "bar", "lines")


@final
class ConsoleSink(Sink):
    """Show how a run is going.

    A terminal gets a progress bar with loss, learning rate, gradient norm, tokens per second,
    memory and the time left. Otherwise there are plain lines::

        step   500/5000 (10.0%) | loss 2.4031 | lr 9.8e-04 | grad_norm 0.83 | 41.2k tok/s | ...

    Evaluations always get a line of their own. If the reader goes away (a closed pipe), the run
    goes on in silence.

    Parameters
    ----------
    style : {"auto", "bar", "lines"}, default "auto"
        "auto" is "bar" on a terminal.
    every : int, default 0
        Steps between two plain lines; 0 gives about a hundred lines a run. The first and the
        last step always have one. The bar shows every step.
    stream : text stream, optional
        ``sys.stdout`` at the time of ``open`` if left out.
    clock : callable, default time.monotonic
        Seconds, for the time left.
    """

    def __init__(
        self,
        *,
        style: Literal["auto", "bar", "lines"] = "auto",
        every: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if style not in _STYLES:
            raise ConfigError(
                f'sink console: style: expected "auto", "bar" or "lines", got {style!r}'
            )
        if not isinstance(every, int) or isinstance(every, bool) or every < 0:
            raise ConfigError(f"sink console: every: expected an integer >= 0, got {every!r}")
        if stream is not None and not hasattr(stream, "isatty"):
            raise ConfigError(f"sink console: stream: expected an open text stream, got {stream!r}")
        if not callable(clock):
            raise ConfigError(f"sink console: clock: expected a callable, got {clock!r}")
        self._style, self._every, self._given_stream, self._clock = style, every, stream, clock
        self._stream: TextIO | None = None
        self._bar: Bar | None = None
        self._max_steps = 0
        self._first: tuple[int, float] | None = None

    def open(self, run: RunInfo) -> None:
        """Begin; on a terminal, draw the bar."""
        self.close()
        self._stream = self._given_stream or sys.stdout
        self._max_steps, self._first = run.max_steps, None
        if self._style == "bar" or (self._style == "auto" and _is_terminal(self._stream)):
            from tisslm.sinks._bar import Bar

            self._bar = Bar(self._stream, run.max_steps, run.resumed_step)

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Show the metrics of one step that have a place on the line."""
        where = position(step, self._max_steps)
        if "train/loss" in metrics:
            is_first = self._first is None
            text = describe(metrics, self._seconds_left(step, metrics))
            if self._bar is not None:
                self._bar.update(step, where, text)
            elif is_first or step == self._max_steps or step % self._interval() == 0:
                self._print(f"{where} | {text}")
        evaluation = describe_evaluation(metrics)
        if evaluation:
            self._print(f"{where} | {evaluation}")

    def close(self) -> None:
        """End; on a terminal, leave the full bar behind."""
        if self._bar is not None:
            self._bar.close()
        self._bar = self._stream = None

    def _interval(self) -> int:
        """Return the steps between two plain lines: 1, 2 or 5 times a power of ten if not given."""
        if self._every:
            return self._every
        wanted = self._max_steps / 100 if self._max_steps > 0 else 10
        power = 1
        while True:
            for factor in (1, 2, 5):
                if factor * power >= wanted:
                    return factor * power
            power *= 10

    def _seconds_left(self, step: int, metrics: Mapping[str, Any]) -> float | None:
        """Return the remaining steps times the mean time of those since the first line."""
        now = self._clock()
        if self._first is None:
            self._first = (step, now)
        first_step, start = self._first
        left = self._max_steps - step
        if left <= 0:
            return None
        if step > first_step:
            return left * (now - start) / (step - first_step)
        if "train/step_time_ms" in metrics:
            return left * float(metrics["train/step_time_ms"]) / 1e3
        return None

    def _print(self, line: str) -> None:
        """Print a line, unless nobody reads any more."""
        if self._bar is not None:
            self._bar.print(line)
        elif self._stream is not None:
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except (OSError, ValueError):  # a closed pipe, a closed stream
                self._stream = None


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM", "") != "dumb"
    except ValueError:  # a closed stream
        return False
