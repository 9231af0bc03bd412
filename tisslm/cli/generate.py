"""``tisslm generate``: text from a trained model, printed while it is generated.

Tokens are sampled in ``tisslm.models.generation``.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    say,
    whole_ends,
    write_text,
)
from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.models.generation import Generation, Sampling, Stops, beginning, samples
from tisslm.system.memory_limit import resident
from tisslm.system.quantities import duration_text, size_text
from tisslm.system.safe_files import Refusal, RegularFile
from tisslm.workflows.load_model import load_model

if TYPE_CHECKING:
    from tisslm.contracts import Decoder, Model, Tokenizer

__all__ = ["generate"]

SEPARATOR = "---------------"

#: Texts that are generated together. A weight is read once for all of them, which pays until the
#: multiplications take as long: up to about eight rows (docs/performance.md).
AT_ONCE = 8

UNREADABLE = Refusal(DataError, "cannot be read", "give a text file with a prompt in each line")
LARGEST_FILE = 2**24


def generate(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help=WHERE, show_default=False)],
    prompt: Annotated[
        list[str],
        typer.Option(
            "--prompt", "-p", help="What the text begins with; may be repeated.", show_default=False
        ),
    ] = [],  # noqa: B006 (typer reads it, nobody writes to it)
    prompts: Annotated[
        Path | None, typer.Option(help="A file with a prompt in each line.", show_default=False)
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=0, help="Tokens to add.")] = 200,
    temperature: Temperature = 0.8,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    stop: Annotated[
        list[str],
        typer.Option(help="A string that ends the text; may be repeated.", show_default=False),
    ] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 42,
    num_samples: Annotated[
        int, typer.Option(min=1, help="Texts of each prompt, with seeds counting up.")
    ] = 1,
    weights: Weights = "fp32",
    ema: Annotated[bool, typer.Option("--ema", help=AVERAGED)] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print tokens per second and memory.")
    ] = False,
) -> None:
    """Write text with a trained model, beginning with a prompt, until it ends."""
    draws = [
        Sampling(temperature, top_k, top_p, seed + i, min_p, repetition_penalty)
        for i in range(num_samples)
    ]
    if weights not in ("fp32", "bf16"):
        raise ConfigError(f"--weights: expected fp32 or bf16, got {weights!r}")
    Stops(stop)
    texts = [(text, draw) for text in _prompts(prompt, prompts) for draw in draws]
    model, tokenizer = load_model(path, ema=ema)
    if tokenizer is None:
        raise CheckpointError(
            f"{path}: the model has no tokenizer, so it cannot write text; {GIVE_TOKENIZER}, "
            "or use tisslm.models.generation with token ids"
        )
    decoder = model.decoder(weights=weights)
    runs = []
    try:
        for first in range(0, len(texts), AT_ONCE):
            if first:
                say(SEPARATOR)
            part = texts[first : first + AT_ONCE]
            runs.append(_write(model, tokenizer, part, max_new_tokens, stop, decoder))
    except DataError as error:  # the tokenizer refuses the prompt, or what the model says
        raise DataError(f"{path}: {error}") from error
    if stats:
        complain(_stats(runs))


def _prompts(prompt: list[str], file: Path | None) -> list[str]:
    """Return the prompts of the options; one that is empty if there are none."""
    if file is None:
        return list(prompt) or [""]
    if prompt:
        raise ConfigError("--prompts: expected a file or --prompt, got both; give one of them")
    with RegularFile(file, UNREADABLE) as source:
        read = bytes(source.read(LARGEST_FILE))
    try:
        text = read.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UNREADABLE(file, f"no UTF-8 at byte {error.start}") from None
    # Not splitlines(), which breaks at form feeds and Unicode's separators, too.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not any(lines):
        raise UNREADABLE(file, "it has no prompt")
    return [line for line in lines if line]


def _write(
    model: Model,
    tokenizer: Tokenizer,
    texts: list[tuple[str, Sampling]],
    max_new_tokens: int,
    stop: list[str],
    decoder: Decoder,
) -> Generation:
    """Print texts one below the other, each as it comes when it is its turn."""
    ids = [beginning(tokenizer, text) for text, _ in texts]
    running = Generation(
        model,
        ids,
        max_new_tokens,
        [sampling for _, sampling in texts],
        n_ids=tokenizer.vocab_size,
        ends=tokenizer.ends,
        decoder=decoder,
    )
    waiting: list[list[str]] = [[] for _ in texts]
    new = samples(running, tokenizer, ids, stop)
    for row, (prompt, _) in enumerate(texts):
        if row:
            say(SEPARATOR)
        write_text(prompt)
        for piece in whole_ends(_of_row(row, new, waiting)):
            write_text(piece)
        say()
    return running


def _of_row(row: int, new: Iterator[tuple[int, str]], waiting: list[list[str]]) -> Iterator[str]:
    """Yield the pieces of one text; those of the others wait for their turn."""
    yield from waiting[row]
    for other, piece in new:
        if other == row:
            yield piece
        else:
            waiting[other].append(piece)


def _stats(runs: list[Generation]) -> str:
    """Say how fast prompts were read and texts written, and what memory that took."""
    read, wrote = (
        sum(getattr(run, f"{what}_tokens") for run in runs) for what in ("prompt", "new")
    )
    reading, writing = (
        sum(getattr(run, f"{what}_seconds") for run in runs) for what in ("prompt", "new")
    )
    peak = max(resident(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return (
        f"read {read} tokens in {duration_text(reading)} ({_rate(read, reading)} tokens/s), "
        f"wrote {wrote} in {duration_text(writing)} ({_rate(wrote, writing)} tokens/s); "
        f"{size_text(peak)} of memory at most"
    )


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:.1f}" if count and seconds else "0"
