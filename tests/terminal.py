"""A terminal for tests: a pseudo-terminal, and what a person would see on it.

It knows the sequences that the package writes, and fails at any other.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

#: Cursor position, erase in line, erase in display, select graphic rendition, modes.
_SEQUENCE = re.compile(r"\x1b\[(\?)?([\d;]*)([A-Za-z])")

#: What is left of one whose end was dropped; the next one begins anew.
_CUT = re.compile(r"\x1b(\[\??[\d;]*)?$")


class Picture:
    """What is on a terminal after some text: an alternate screen, and lines in scroll-back."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.alternate = False
        self.cursor = True
        self.wraps = True
        self.styles: set[str] = set()
        self.normal = ""
        self._cells: list[list[str]] = []
        self._at = (0, 0)
        self.is_late = False
        self._clear()

    def _clear(self) -> None:
        self._cells = [[" "] * self.columns for _ in range(self.rows)]

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._clear()  # a real one keeps some of it; what matters is that all is drawn again
        self.is_late = True  # what is under way was drawn for the size before

    @property
    def screen(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    def feed(self, text: str) -> None:
        place = 0
        for found in _SEQUENCE.finditer(text):
            self._print(text[place : found.start()])
            place = found.end()
            self._act(*found.groups())
        self._print(text[place:])

    def _print(self, text: str) -> None:
        if self.is_late:
            text = _CUT.sub("", text)
        assert "\x1b" not in text, text
        if not self.alternate:
            self.normal += text
            return
        row, column = self._at
        for character in text:
            assert character.isprintable(), repr(text)
            if self.is_late and (row >= self.rows or column >= self.columns):
                continue
            assert column < self.columns, f"row {row} is wider than the screen: {text!r}"
            self._cells[row][column] = character
            column += 1
        self._at = row, column

    def _act(self, private: str | None, numbers: str, letter: str) -> None:
        if private:
            on = letter == "h"
            if numbers == "1049":
                self.alternate = on
            elif numbers == "25":
                self.cursor = on
            else:
                assert numbers == "7"
                self.wraps = on
        elif letter == "H":
            row, column = (int(n) - 1 for n in numbers.split(";"))
            assert row < self.rows or self.is_late
            self._at = row, column
        elif letter == "K":
            row, column = self._at
            if row >= self.rows:
                return
            self._cells[row][column:] = [" "] * (self.columns - column)
        elif letter == "J":
            self._clear()
            self.is_late = False
        else:
            assert letter == "m" or self.is_late  # a beginning and another's end
            self.styles.add(numbers)


class Session:
    """A command on a pseudo-terminal of its own, in a session of its own."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        *,
        columns: int = 100,
        rows: int = 30,
        environment: Mapping[str, str] | None = None,
        encoding: str = "utf-8",
    ) -> None:
        self.picture = Picture(columns, rows)
        self.everything = ""
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = ""
        self.handle, inner = pty.openpty()
        _set_size(inner, columns, rows)
        known = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI", "COLUMNS")}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**known, "TERM": "xterm", **(environment or {})},
        )
        os.close(inner)

    @property
    def times_left(self) -> int:
        """How often the terminal was given back, with its cursor."""
        return self.everything.count("\x1b[?25h\x1b[?1049l")

    def read(self, seconds: float = 0.1) -> bool:
        """Take what comes within some seconds; False when the other side has closed."""
        ready, _, _ = select.select([self.handle], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.handle, 2**16)
        except OSError:
            return False
        text = self._rest + self._decoder.decode(data)
        cut = text.rfind("\x1b")
        # a sequence may come in two pieces
        keep = cut if cut >= 0 and not _SEQUENCE.search(text, cut) else len(text)
        text, self._rest = text[:keep], text[keep:]
        self.everything += text
        self.picture.feed(text)
        return bool(data)

    def wait(self, what: Callable[[Picture], bool], seconds: float = 60.0) -> None:
        """Read until the picture is as it should be."""
        end = time.monotonic() + seconds
        while not what(self.picture):
            seen = "\n".join([*self.picture.screen, "---", self.picture.normal])
            assert time.monotonic() < end, f"it did not come; on the screen:\n{seen}"
            if not self.read():
                assert what(self.picture), f"it ended before; on the screen:\n{seen}"
                return

    def end(self, seconds: float = 60.0) -> int:
        """Read to the end and return the exit code."""
        end = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < end, "\n".join(self.picture.screen)
        return self.process.wait(seconds)

    def type(self, text: str) -> None:
        if "\x03" in text:  # the driver drops what has not been read yet
            self.picture.is_late = True
            self._decoder.errors = "ignore"  # of a character, too, some bytes may be dropped
        os.write(self.handle, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        _set_size(self.handle, columns, rows)
        self.picture.resize(columns, rows)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.handle)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def tisslm(*arguments: str) -> list[str]:
    """Return the command of these arguments."""
    return [sys.executable, "-m", "tisslm", *arguments]


def read_to_end(handle: int) -> bytes:
    """Return all that comes before the other side of a terminal is closed.

    One read takes what is there at the moment, which may be a part of one write.
    """
    parts = []
    with contextlib.suppress(OSError):  # so Linux says that it is the end
        while part := os.read(handle, 2**16):
            parts.append(part)
    return b"".join(parts)


def _set_size(handle: int, columns: int, rows: int) -> None:
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
