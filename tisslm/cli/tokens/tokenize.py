"""``tisslm tokenize``: turn text files into token shards.

The work is done in ``tisslm.workflows.tokenize``; the format is described in
``tisslm.datasets.shard_format``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._progress import TextProgress, plain_bytes
from tisslm.cli._terminal import complain, say
from tisslm.cli.tokens.reading import (
    ChatForm,
    Inputs,
    OnBadRecord,
    Separator,
    TextField,
    key_values,
    read_options,
)
from tisslm.datasets.shard_format import Manifest
from tisslm.errors import ConfigError
from tisslm.registry import load_registry
from tisslm.system.quantities import duration_text, megabytes_text
from tisslm.workflows.tokenize import ShardFolder, Tokenized, check_new, choose_tokenizer, n_bytes
from tisslm.workflows.tokenize import tokenize as write_shards

__all__ = ["tokenize"]

#: Ids of a file, as llm.c's own shards have.
SHARD_TOKENS = 10**8


def tokenize(
    inputs: Inputs,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to make.", show_default=False)
    ],
    tokenizer: Annotated[
        str,
        typer.Option(metavar="NAME|PATH", help="A tokenizer.json, a folder with one, or a name."),
    ] = "char",
    tokenizer_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Of a tokenizer by name; several times."),
    ] = None,
    shard_tokens: Annotated[
        int, typer.Option(metavar="N", help="Tokens in each file.")
    ] = SHARD_TOKENS,
    valid_fraction: Annotated[
        float, typer.Option(metavar="F", help="Share of the documents to validate on.")
    ] = 0.0,
    document_separator: Separator = "",
    text_field: TextField = "text",
    bad_records: OnBadRecord = "error",
    chat: ChatForm = "template",
) -> None:
    """Turn text into token shards, which a run reads instead of text."""
    if not 0.0 <= valid_fraction < 1.0:
        raise ConfigError(
            f"--valid-fraction: expected a number of at least 0 and below 1, got {valid_fraction}"
        )
    chosen = key_values("--tokenizer-option", tokenizer_option or ())
    registry = load_registry()
    options = read_options(text_field, document_separator, bad_records, registry, chat)
    check_new(out)
    total = plain_bytes(inputs)
    try:
        with TextProgress("reading", total) as progress:
            watch = _Watch(progress)
            name, made = choose_tokenizer(tokenizer, chosen, inputs, options, registry, watch)
        with ShardFolder(out, made, name, shard_tokens) as folder:
            with TextProgress("tokenizing", total) as progress:
                done = write_shards(
                    inputs,
                    made,
                    folder,
                    options,
                    valid_fraction=valid_fraction,
                    progress=lambda now: progress.update(now.text_bytes, _words(now)),
                )
            manifest = folder.finish(inputs)
    except KeyboardInterrupt:
        complain(f"interrupted: {out} was not written; start again")
        raise typer.Exit(130) from None
    _report(out, name, done, manifest)


class _Watch:
    """Count the text from which a tokenizer learns, for the progress display."""

    def __init__(self, progress: TextProgress) -> None:
        self._progress, self._seen = progress, 0

    def __call__(self, text: str) -> None:
        self._seen += n_bytes(text)
        self._progress.update(self._seen, "learning")


def _words(now: Tokenized) -> str:
    return f"{now.documents:,} documents | {now.tokens:,} tokens"


def _report(out: Path, name: str, done: Tokenized, manifest: Manifest) -> None:
    """Print what was written, and the command that trains on it."""
    say(
        f"{_words(done)} ({manifest.dtype}, {name} tokenizer of {manifest.tokenizer.vocab_size} "
        f"ids) from {megabytes_text(done.text_bytes)} in {duration_text(done.seconds)} "
        f"| {done.rate:.1f} MB/s"
    )
    for split, record in manifest.splits.items():
        masked = record.tokens - record.targets
        say(
            f"{split}: {record.documents:,} documents, {record.tokens:,} tokens in "
            f"{len(record.files)} file{'s' if len(record.files) > 1 else ''}"
            + (f", {masked:,} of them no targets" if masked else "")
        )
    say(f"shards: {out}")
    say(f"train on them: tisslm train --set data.path={out}")
