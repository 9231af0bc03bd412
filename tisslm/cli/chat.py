"""``tisslm chat``: a conversation on the terminal, or the lines of a script as turns.

What is said is kept, and written by the model's template, in ``tisslm.workflows.conversation``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._options import (
    MinP,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Weights,
)
from tisslm.cli._terminal import (
    AVERAGED,
    GIVE_TOKENIZER,
    WHERE,
    complain,
    pour,
    say,
    whole_ends,
    write_text,
)
from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.models.generation import Sampling
from tisslm.workflows.conversation import Conversation
from tisslm.workflows.load_model import load_model

__all__ = ["chat"]

#: What is written in front of the user's turn, on a terminal.
PROMPT = "> "
HELP = "/reset forgets all that was said, /exit (or Ctrl-D) ends, Ctrl-C stops an answer"
LONGEST_LINE = 2**22  # bytes


def chat(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help=WHERE, show_default=False)],
    system: Annotated[
        str,
        typer.Option("--system", "-s", help="What the model is told first.", show_default=False),
    ] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 512,
    temperature: Temperature = 0.8,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answers.")] = 42,
    weights: Weights = "fp32",
    ema: Annotated[bool, typer.Option("--ema", help=AVERAGED)] = False,
) -> None:
    """Talk to a model that was made for conversations; each line is a turn."""
    sampling = Sampling(temperature, top_k, top_p, seed, min_p, repetition_penalty)
    model, tokenizer = load_model(path, ema=ema)
    if tokenizer is None:
        raise CheckpointError(
            f"{path}: the model has no tokenizer, so it cannot converse; {GIVE_TOKENIZER}"
        )
    try:
        conversation = Conversation(
            model,
            tokenizer,
            system=system,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            weights=weights,
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    shows = sys.stdin.isatty()
    if shows:
        say(HELP)
    for line in _lines(shows):
        if line == "/exit":
            break
        if line == "/reset":
            conversation.reset()
        elif line.strip():
            _turn(conversation, line, shows)


def _turn(conversation: Conversation, line: str, shows: bool) -> None:
    """Print the answer to a line; what is refused ends a script, and not a conversation."""
    forgotten = conversation.forgotten
    try:
        for piece in whole_ends(conversation.answer(line)):
            write_text(piece)
    except DataError as error:
        if not shows:
            raise
        complain(f"error: {error}")
        return
    except KeyboardInterrupt:
        if not shows:
            raise
    say()
    if conversation.forgotten > forgotten:
        complain(
            f"note: the context is full; {conversation.forgotten} messages are forgotten, the "
            "oldest first"
        )


def _lines(shows: bool) -> Iterator[str]:
    """Yield the lines of standard input, without their ends."""
    number = 0
    while True:
        if shows:
            pour(PROMPT)
        raw = sys.stdin.buffer.readline(LONGEST_LINE + 1)
        number += 1
        if not raw:
            if shows:
                say()
            return
        where = f"standard input, line {number}"
        if len(raw) > LONGEST_LINE:
            raise DataError(f"{where}: expected at most {LONGEST_LINE} bytes, got more; break it")
        try:
            yield raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise DataError(f"{where}: expected UTF-8, got other bytes; convert it") from None
