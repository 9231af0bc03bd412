"""``tisslm tokenizer``: train a tokenizer on text files.

It is trained in ``tisslm.workflows.tokenize.training``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._progress import TextProgress, plain_bytes
from tisslm.cli._terminal import complain, say
from tisslm.cli.tokens.reading import Inputs, OnBadRecord, Separator, TextField, read_options
from tisslm.errors import ConfigError
from tisslm.registry import load_registry
from tisslm.system.quantities import duration_text, megabytes_text
from tisslm.workflows.tokenize import n_bytes, train_bpe, write_new_file

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _tokenizer() -> None:
    """Make tokenizers."""


@app.command()
def train(
    inputs: Inputs,
    vocab_size: Annotated[
        int,
        typer.Option(metavar="N", help="Ids wanted, the 256 bytes included.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The tokenizer.json to make.")] = Path(
        "tokenizer.json"
    ),
    special: Annotated[
        list[str] | None,
        typer.Option(metavar="TOKEN", help="Gets an id; several times. Left out, <|endoftext|>."),
    ] = None,
    min_frequency: Annotated[
        int, typer.Option(metavar="N", help="A pair seen fewer times is not merged.")
    ] = 2,
    document_separator: Separator = "",
    text_field: TextField = "text",
    bad_records: OnBadRecord = "error",
) -> None:
    """Train a byte-pair tokenizer and write it as a tokenizer.json."""
    if out.exists():
        raise ConfigError(f"{out}: expected a new file, it exists; choose another --out")
    options = read_options(
        text_field, document_separator, bad_records, load_registry(), chat="plain"
    )
    begun, seen = time.monotonic(), 0
    try:
        with TextProgress("reading", plain_bytes(inputs)) as progress:

            def watch(text: str) -> None:
                nonlocal seen
                seen += n_bytes(text)
                progress.update(seen, "counting words")

            found = train_bpe(
                inputs,
                vocab_size,
                options,
                min_frequency=min_frequency,
                special_tokens=["<|endoftext|>"] if special is None else special,
                progress=watch,
            )
        write_new_file(out, found.json_text())
    except KeyboardInterrupt:
        complain(f"interrupted: {out} was not written; start again")
        raise typer.Exit(130) from None
    seconds = time.monotonic() - begun
    say(
        f"{found.vocab_size} ids from {megabytes_text(seen)} in {duration_text(seconds)}"
        + ("" if found.vocab_size >= vocab_size else "; the text has no more pairs to merge")
    )
    say(f"tokenizer: {out}")
