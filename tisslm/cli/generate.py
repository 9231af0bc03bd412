"""``tisslm generate``: text from a trained model, printed while it is generated.

Tokens are sampled in ``tisslm.models.generation``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._terminal import say, whole_ends, write_text
from tisslm.errors import CheckpointError, DataError
from tisslm.models.generation import Sampling, sample
from tisslm.workflows.load_model import load_model

__all__ = ["generate"]

SEPARATOR = "---------------"


def generate(
    path: Annotated[Path, typer.Argument(metavar="RUN_OR_CHECKPOINT", show_default=False)],
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="What the text begins with.", show_default=False)
    ] = "",
    max_new_tokens: Annotated[int, typer.Option(min=0, help="Tokens to add.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="0 takes the most probable token, more is bolder.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Only the k most probable; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Only those that together reach p; 1: all.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 42,
    num_samples: Annotated[int, typer.Option(min=1, help="Texts, with seeds counting up.")] = 1,
) -> None:
    """Write text with a trained model, beginning with a prompt."""
    samplings = [Sampling(temperature, top_k, top_p, seed + i) for i in range(num_samples)]
    model, tokenizer = load_model(path)
    if tokenizer is None:
        raise CheckpointError(
            f"{path}: the checkpoint has no tokenizer, so it cannot write text; train with a "
            "dataset that has one, or use tisslm.models.generation with token ids"
        )
    for i, sampling in enumerate(samplings):
        if i:
            say(SEPARATOR)
        try:
            new = sample(model, tokenizer, prompt, max_new_tokens, sampling)
            write_text(prompt)
            for piece in whole_ends(new):
                write_text(piece)
        except DataError as error:  # the tokenizer refuses the prompt, or what the model says
            raise DataError(f"{path}: {error}") from error
        say()
