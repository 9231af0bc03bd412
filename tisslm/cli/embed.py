"""``tisslm embed``: vectors of the texts of a file, by a trained encoder.

The work is done in ``tisslm.workflows.embedding``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._progress import TextProgress, plain_bytes
from tisslm.cli._terminal import AVERAGED, WHERE, complain, say
from tisslm.errors import ConfigError
from tisslm.system.quantities import duration_text
from tisslm.workflows.embedding import Embedded, TextEmbedder, embed_file, load_encoder

__all__ = ["embed"]


def embed(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help=WHERE, show_default=False)],
    source: Annotated[
        Path,
        typer.Option(
            "--input", "-i", metavar="FILE", help="One text a line, or JSON lines (.jsonl).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="X.npy", help="The array to write, a row for each text.",
            show_default=False,
        ),
    ],
    field: Annotated[str, typer.Option(metavar="NAME", help="Field of JSON records.")] = "text",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Texts of a pass; left out, 4096 tokens of them.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to write before each text.")
    ] = None,
    query: Annotated[
        bool, typer.Option("--query", help="Write the model's prompt of queries before each.")
    ] = False,
    document: Annotated[
        bool, typer.Option("--document", help="Write the model's prompt of documents before each.")
    ] = False,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Only so many numbers of each vector, the first ones.")
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Bring every vector to length 1.")
    ] = False,
    ema: Annotated[bool, typer.Option("--ema", help=AVERAGED)] = False,
) -> None:  # fmt: skip
    """Write the vectors of the texts of a file, as an array of NumPy."""
    if (prompt is not None) + query + document > 1:
        raise ConfigError("--prompt, --query, --document: expected one of them, got more")
    if output.suffix != ".npy":
        raise ConfigError(f"--output: expected a name that ends in .npy, got {str(output)!r}")
    embedder = load_encoder(path, ema=ema)
    before = _prompt(embedder, prompt, "query" if query else "document" if document else "")
    try:
        with TextProgress("embedding", plain_bytes([source])) as progress:
            done = embed_file(
                embedder,
                source,
                output,
                text_field=field,
                progress=lambda now: progress.update(now.text_bytes, _words(now)),
                batch_size=batch_size,
                prompt=before or "",
                normalize=True if normalize else None,
                dimensions=dimensions,
            )
    except KeyboardInterrupt:
        complain(f"interrupted: {output} was not written; start again")
        raise typer.Exit(130) from None
    if before is None:
        complain(f"note: {path}: it names no prompt for this kind of text, so none was written")
    if embedder.cut:
        complain(f"note: {source}: {embedder.cut}")
    say(f"{_words(done)} in {duration_text(done.seconds)}")
    say(f"vectors: {output} ({done.texts:,} x {done.size})")


def _prompt(embedder: TextEmbedder, prompt: str | None, kind: str) -> str | None:
    """Return what is written before each text; None for a kind that the model says nothing of."""
    if prompt is not None or not kind:
        return prompt or ""
    return embedder.prompts.get(kind)


def _words(now: Embedded) -> str:
    return f"{now.texts:,} texts | {now.rate:,.0f} texts/s"
