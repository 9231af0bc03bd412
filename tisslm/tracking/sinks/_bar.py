"""A progress bar on a terminal, drawn by rich.

rich is imported when a bar is made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast, final

from tisslm.config.metric_types import Metric
from tisslm.tracking.sinks._forgiving import Forgiving
from tisslm.tracking.sinks._line import describe, position
from tisslm.tracking.terminal.ink import leads_to_terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Bar"]

_REFRESHES_PER_SECOND = 4
_WIDTH = 20


@final
class Bar:
    """A bar that stays at the bottom, with lines printed above it.

    Parameters
    ----------
    stream : Forgiving
    total : int
        Step at which the bar is full; 0 if that is not known.
    completed : int
        The step at which the bar begins.
    own : sequence of Metric
        The metrics that the parts of the run declare.
    """

    def __init__(
        self, stream: Forgiving, total: int, completed: int, own: Sequence[Metric] = ()
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self._total, self._completed, self._own = total, completed, own
        self._position = self._text = ""
        self._console = Console(
            file=cast("TextIO", stream), force_terminal=True, highlight=False, emoji=False
        )
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
            redirect_stdout=leads_to_terminal(sys.stdout),  # what goes to a file is to stay there
            redirect_stderr=leads_to_terminal(sys.stderr),
        )
        self._live.start()

    def update(self, step: int, metrics: Mapping[str, Any], left: float | None) -> None:
        """Set what the bar shows at its next refresh."""
        if "train/loss" in metrics:
            self._completed, self._position = step, position(step, self._total)
            self._text = describe(metrics, left, self._own)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    def aside(self, line: str) -> None:
        """Print a line of a text."""
        self.say(line)

    def close(self) -> None:
        """Draw it a last time and give the terminal back."""
        self._live.stop()

    def _draw(self) -> RenderableType:
        """Return one line, or two where the terminal is too narrow for one."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = ProgressBar(self._total or None, self._completed, width=_WIDTH, pulse=not self._total)
        words = Text(self._text, no_wrap=True, overflow="ellipsis")
        line = Table.grid(padding=(0, 1))
        room = self._console.width - len(self._position) - _WIDTH - 3
        if len(self._text) <= room:
            line.add_row(self._position, bar, words)
            return line
        line.add_row(self._position, bar)
        return Group(line, words)
