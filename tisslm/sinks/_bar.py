"""A progress bar on a terminal, drawn by rich.

What does not live here: what it says (``console``). rich is imported when a bar is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO, final

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
    stream : text stream
    total : int
        Step at which the bar is full; 0 if that is not known.
    completed : int
        Where it begins.
    """

    def __init__(self, stream: TextIO, total: int, completed: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._total, self._completed = total, completed
        self._position = self._text = ""
        self._console = Console(file=stream, force_terminal=True, highlight=False)
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
        )
        self._live.start()

    def update(self, step: int, position: str, text: str) -> None:
        """Set what the bar shows at its next refresh."""
        self._completed, self._position, self._text = step, position, text

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

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
