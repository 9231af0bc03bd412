"""``tisslm export``: write a trained model in the files of others.

The work is done in ``tisslm.workflows.export``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._terminal import AVERAGED, WHERE, complain, say
from tisslm.system.quantities import size_text
from tisslm.workflows.export import export as write

__all__ = ["export"]


def export(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help=WHERE)],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PATH", help="The folder, or the file, to make.",
            show_default=False,
        ),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="hf|gguf|peft|gguf-lora",
            help="A folder of Hugging Face transformers, a file of llama.cpp, or adapters alone, "
            "as a folder of PEFT or a file of llama.cpp.",
        ),
    ] = "hf",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="fp32|bf16|fp16|q8_0", help="Type of the matrices; q8_0 in GGUF alone."
        ),
    ] = "fp32",
    ema: Annotated[bool, typer.Option("--ema", help=AVERAGED)] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what an earlier export has written.")
    ] = False,
) -> None:  # fmt: skip
    """Write a model as a folder of transformers or sentence-transformers, or GGUF; or adapters."""
    done = write(path, output, form=form, dtype=dtype, force=force, ema=ema)
    for note in done.notes:
        complain(f"note: {note}")
    say(f"{form}: {done.path} ({size_text(done.nbytes)})")
