"""The screen writes whole pictures, also to a terminal that takes a part at a time."""

from __future__ import annotations

import os
import pty
import tty

from terminal import read_to_end

from tisslm.tracking.terminal.ink import Ink
from tisslm.tracking.terminal.screen import Screen


def test_a_picture_is_written_whole_where_a_write_takes_a_part(monkeypatch) -> None:
    """As an unbuffered stream's does when a signal comes."""
    outer, inner = pty.openpty()
    tty.setraw(inner)
    write, sizes = os.write, []

    def part(handle: int, data: bytes) -> int:
        sizes.append(write(handle, data[:7]))
        return sizes[-1]

    with os.fdopen(inner, "w", encoding="utf-8") as stream:
        screen = Screen(stream, Ink.of(stream))
        monkeypatch.setattr(os, "write", part)
        screen.show([[("größe" * 4, "")], [("below", "")]], os.terminal_size((80, 24)))
        monkeypatch.undo()
        assert not screen.lost
    seen = read_to_end(outer).decode()
    os.close(outer)
    assert len(sizes) > 3
    assert "größe" * 4 in seen
    assert seen.endswith("below\x1b[K")
