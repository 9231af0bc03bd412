"""Printing by commands: the one place where text is made safe to show on a terminal.

Control characters of a file, a name, an exception or a model's text never act on the terminal
(``tisslm.errors.visible``). JSON is printed unchanged, because it has none.

A closed or full standard output is handled in ``system.standard_streams``; the screen that fills a
whole terminal is in ``tisslm.tracking.terminal``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from tisslm.errors.visible import visible
from tisslm.system.launcher import find_launcher

__all__ = [
    "AVERAGED",
    "GIVE_TOKENIZER",
    "NUMBER",
    "TEXT",
    "WHERE",
    "WORD",
    "complain",
    "pour",
    "say",
]
__all__ += ["show_table", "tell", "whole_ends", "write_text"]

#: Styles of the cells of a column; only a text is wrapped.
WORD: Final[Mapping[str, Any]] = {"no_wrap": True}
NUMBER: Final[Mapping[str, Any]] = {"no_wrap": True, "justify": "right"}
TEXT: Final[Mapping[str, Any]] = {"overflow": "fold"}

#: What a command that takes a model says of it: all that ``open_model`` opens.
WHERE: Final = "A run or checkpoint, a folder of Hugging Face transformers, or a GGUF file."
AVERAGED: Final = "Take the average of the weights, of a run with a section [ema]."
#: What to do about one that has no tokenizer.
GIVE_TOKENIZER: Final = (
    "put its tokenizer.json into the folder of a published model, or train with a dataset that has "
    "one"
)


def say(text: str = "") -> None:
    """Print lines on standard output; of the processes of a launcher, the first speaks for all."""
    launcher = find_launcher()
    if launcher is None or launcher.rank == 0:
        pour(f"{visible(text)}\n")


def tell(text: str) -> None:
    """Print lines on standard error; of the processes of a launcher, the first speaks for all."""
    launcher = find_launcher()
    if launcher is None or launcher.rank == 0:
        complain(text)


def complain(text: str) -> None:
    """Print lines on standard error."""
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()


def write_text(text: str) -> None:
    """Print a piece of a model's text: made visible on a terminal, unchanged elsewhere."""
    pour(visible(text) if sys.stdout.isatty() else text)


def whole_ends(pieces: Iterable[str]) -> Iterator[str]:
    """Join a CR and a LF that come in two pieces: a CR alone would act on a terminal."""
    held = ""
    for piece in pieces:
        text = held + piece
        held = "\r" if text.endswith("\r") else ""
        yield text.removesuffix("\r")
    yield held


def pour(text: str) -> None:
    """Print a text unchanged: one that was made visible before, and may have styles."""
    sys.stdout.write(text)
    sys.stdout.flush()


def show_table(columns: Mapping[str, Mapping[str, Any]], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below their headings, as wide as the terminal.

    Parameters
    ----------
    columns : mapping of str to mapping
        The style of each column, ``WORD``, ``NUMBER`` or ``TEXT``, by its heading.
    rows : iterable of sequences of str
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading, how in columns.items():
        table.add_column(visible(heading), **how)
    for row in rows:
        table.add_row(*map(visible, row))
    console = Console(markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    pour(captured.get())
