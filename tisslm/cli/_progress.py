"""Progress of reading a long text, on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, final

from tisslm.cli._terminal import complain
from tisslm.system.quantities import megabytes_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["TextProgress", "plain_bytes"]

#: Seconds between two lines where there is no terminal.
INTERVAL = 10.0


@final
class TextProgress:
    """Show the bytes of text read, their rate, and a few words; a context manager.

    Parameters
    ----------
    what : str
        What is being done, in one word.
    total : int
        Bytes of the whole text, 0 if unknown.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._begun = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        self._begun = self._shown = time.monotonic()
        if sys.stderr.isatty():
            self._bar, self._task = self._make_bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, n_bytes: int, words: str) -> None:
        """Show that ``n_bytes`` of text are done; without a terminal, at most every ten seconds."""
        now = time.monotonic()
        rate = f"{megabytes_text(n_bytes / max(now - self._begun, 1e-9))}/s"
        if self._bar is not None and self._task is not None:
            done = min(n_bytes, self._total) if self._total else n_bytes
            self._bar.update(self._task, completed=done, words=f"{rate} | {words}")
        elif now - self._shown >= INTERVAL:
            self._shown = now
            of = f" of {megabytes_text(self._total)}" if self._total else ""
            complain(f"{self._what}: {megabytes_text(n_bytes)}{of} | {rate} | {words}")

    def _make_bar(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            TextColumn(self._what),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        )
        task = bar.add_task(self._what, total=self._total or None, words="")
        bar.start()
        return bar, task


def plain_bytes(paths: Iterable[Path]) -> int:
    """Return the total bytes of text files; 0 if one is a folder or is not plain text."""
    total = 0
    for path in paths:
        if not path.is_file() or path.suffix in (".gz", ".zst", ".jsonl"):
            return 0
        total += path.stat().st_size
    return total
