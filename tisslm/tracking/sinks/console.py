"""The sink ``console``: the whole terminal, a progress bar, or plain lines.

What does not live here: the words (``_line``), and the three ways to show them (``_dashboard``,
``_bar``, ``_lines``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TextIO, final

from tisslm.contracts import RunInfo, Sink, Text
from tisslm.errors import ConfigError
from tisslm.errors.visible import visible
from tisslm.tracking.sinks._forgiving import Forgiving
from tisslm.tracking.sinks._line import describe_evaluation, describe_samples, position
from tisslm.tracking.sinks._lines import Lines
from tisslm.tracking.terminal.ink import is_terminal
from tisslm.tracking.terminal.screen import known_size

__all__ = ["ConsoleSink"]

_STYLES = ("auto", "screen", "bar", "lines")

#: Columns and rows below which "auto" takes the bar.
_LEAST_COLUMNS, _LEAST_ROWS = 60, 16


class _Display(Protocol):
    """One way to show a run."""

    def update(self, step: int, metrics: Mapping[str, Any], left: float | None) -> None:
        """Take the metrics of a step, and the seconds that are left."""

    def say(self, line: str) -> None:
        """Show a line of its own."""

    def aside(self, line: str) -> None:
        """Show a line of a text that ``update`` was given, too."""

    def close(self) -> None:
        """End."""


@final
class ConsoleSink(Sink):
    """Show how a run is going.

    A terminal is taken whole: progress, the curve of the loss, speed, memory and the last sample,
    as ``tisslm top`` shows them. When the run ends, what was there before comes back, with
    messages, numbers and curve below it. Files, pipes, dumb terminals and CI get plain lines::

        step   500/5000 (10.0%) | loss 2.4031 | lr 9.8e-04 | grad_norm 0.83 | 41.2k tok/s | ...

    Evaluations and samples always get lines of their own. If the reader goes away (a closed pipe),
    the disk is full, or there is no standard output, the run goes on in silence.

    Parameters
    ----------
    style : {"auto", "screen", "bar", "lines"}, default "auto"
        "screen" is the whole terminal, "bar" a progress bar below the lines. "auto" is "screen" on
        a terminal of at least 60 columns and 16 rows, "bar" on a smaller one or one that does not
        tell, and "lines" elsewhere.
    every : int, default 0
        Steps between two plain lines; 0 gives about a hundred lines a run. The first and the
        last step always have one. Screen and bar show every step.
    stream : text stream, optional
        ``sys.stdout`` at the time of ``open`` if left out.
    clock : callable, default time.monotonic
        Seconds, for the time left.
    """

    accepts = frozenset({float, Text})

    def __init__(
        self,
        *,
        style: Literal["auto", "screen", "bar", "lines"] = "auto",
        every: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if style not in _STYLES:
            raise ConfigError(
                f'sink console: style: expected "auto", "screen", "bar" or "lines", got {style!r}'
            )
        if not isinstance(every, int) or isinstance(every, bool) or every < 0:
            raise ConfigError(f"sink console: every: expected an integer >= 0, got {every!r}")
        if stream is not None and not hasattr(stream, "isatty"):
            raise ConfigError(f"sink console: stream: expected an open text stream, got {stream!r}")
        if not callable(clock):
            raise ConfigError(f"sink console: clock: expected a callable, got {clock!r}")
        self._style, self._every, self._given_stream, self._clock = style, every, stream, clock
        self._display: _Display | None = None
        self._max_steps = 0
        self._first: tuple[int, float] | None = None

    def open(self, run: RunInfo) -> None:
        """Begin; on a terminal, draw.

        Raises
        ------
        ConfigError
            If the whole of a terminal is asked for where there is none.
        """
        self.close()
        stream = self._given_stream if self._given_stream is not None else sys.stdout
        self._max_steps, self._first = run.max_steps, None
        if stream is not None:  # a service may have no standard output
            self._display = self._display_on(stream, run)

    def _display_on(self, stream: TextIO, run: RunInfo) -> _Display:
        style = _style_for(stream) if self._style == "auto" else self._style
        if style == "lines":
            return Lines(Forgiving(stream), run.max_steps, self._every, run.declared)
        if style == "bar":
            from tisslm.tracking.sinks._bar import Bar

            return Bar(Forgiving(stream), run.max_steps, run.resumed_step, run.declared)
        if not is_terminal(stream, {}):
            raise ConfigError(
                'sink console: style "screen" needs a terminal, got a file, a pipe or a stream in '
                'memory; leave style out, which gives lines there, or choose "lines"'
            )
        from tisslm.tracking.sinks._dashboard import Dashboard

        return Dashboard(stream, run, self._clock)

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Show the metrics of one step that have a place."""
        if self._display is None:
            return
        left = self._seconds_left(step, metrics) if "train/loss" in metrics else None
        self._display.update(step, metrics, left)
        where = position(step, self._max_steps)
        evaluation = describe_evaluation(metrics)
        if evaluation:
            self._display.say(visible(f"{where} | {evaluation}"))
        for number, line in enumerate(describe_samples(metrics)):
            self._display.aside(line if number else f"{where} | {line}")

    def close(self) -> None:
        """End; on a terminal, leave the last picture or the full bar behind."""
        display, self._display = self._display, None
        if display is not None:
            display.close()

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


def _style_for(stream: TextIO) -> str:
    """Return the style for a stream that nobody has chosen one for."""
    if not is_terminal(stream):
        return "lines"
    size = known_size(stream)
    fits = size is not None and size.columns >= _LEAST_COLUMNS and size.lines >= _LEAST_ROWS
    return "screen" if fits else "bar"
