"""The picture of a run when something writes in the middle of it, or the terminal takes nothing."""

from __future__ import annotations

import contextlib
import os
import pty
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tisslm.contracts import RunInfo
from tisslm.tracking.sinks import _dashboard
from tisslm.tracking.sinks._dashboard import Dashboard


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Return both ends of a pseudo-terminal, which are closed afterwards."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def show(inner: int, loss: object) -> None:
    """Show a run of one step; a loss that is a class is made for the picture."""
    stream = os.fdopen(inner, "w", encoding="utf-8", closefd=False)
    picture = Dashboard(stream, RunInfo(Path(), "run", max_steps=9), lambda: 0.0)
    if isinstance(loss, type):
        loss = loss(picture)
    picture.update(1, {"train/loss": loss}, None)
    picture.close()


def ends(action, seconds: float = 20.0) -> bool:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


class Loud(float):
    """A number that says so when it is asked, as what is freed meanwhile may."""

    def __new__(cls, picture: Dashboard) -> Loud:
        found = super().__new__(cls, 1.0)
        found.picture = picture
        return found

    def __float__(self) -> float:
        self.picture.say("asked")
        return 1.0


def test_what_is_written_while_metrics_are_taken_in_is_a_message(terminal) -> None:
    outer, inner = terminal
    seen = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end was closed
            while data := os.read(outer, 2**16):
                seen.append(data)

    threading.Thread(target=read, daemon=True).start()
    assert ends(lambda: show(inner, Loud))
    os.write(inner, b"that is all")
    while b"that is all" not in b"".join(seen):
        pass
    assert b"asked" in b"".join(seen)


def test_a_terminal_that_takes_no_characters_stops_nobody(terminal, monkeypatch) -> None:
    outer, inner = terminal
    monkeypatch.setattr(_dashboard, "_PATIENCE", 0.1)
    termios.tcflow(inner, termios.TCOOFF)  # as Ctrl-S does
    assert ends(lambda: show(inner, 1.0))
    termios.tcflow(inner, termios.TCOON)
    left = b""
    while b"\x1b[?1049l" not in left:
        left += os.read(outer, 2**16)
