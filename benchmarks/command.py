"""What the commands share: their options, who takes part, and failures as exit codes.

What does not live here: what a command measures.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from job import OURS, PLAIN, Contestant, Precision, parse_checkpointing, peers_of
from machine import MAX_THREADS, stop
from protocol import SideFailedError
from sizes import NAMED, Size
from turns import LossMismatchError

__all__ = [
    "Bias",
    "Checkpointing",
    "ElementType",
    "JsonFile",
    "PeerPython",
    "Peers",
    "Plain",
    "Rounds",
    "SizeName",
    "Steps",
    "Threads",
    "attempt",
    "contestants",
    "parse_peers",
]

T = TypeVar("T")

SizeName = Annotated[str, typer.Option("--size", help=f"{', '.join(NAMED)}, or L,H,C,V,B,T.")]
ElementType = Annotated[
    Precision,
    typer.Option("--precision", help="Of products and activations; fp16 has no peer."),
]
Checkpointing = Annotated[
    str, typer.Option("--activation-checkpointing", help="Of ours: none, full or every=N.")
]
Plain = Annotated[
    bool, typer.Option("--plain", help="Ours in fp32 without activation checkpointing, too.")
]
Peers = Annotated[
    str | None,
    typer.Option(
        "--peers",
        help="Of torch,torch-compile for GPT-2 and transformers,transformers-compile for other "
        "families; '' for none, left out for both.",
    ),
]
Steps = Annotated[
    int,
    typer.Option("--steps", min=0, help="Updates in a round; 0: as many as fill about 3 seconds."),
]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Timed turns of each.")]
Threads = Annotated[
    int,
    typer.Option("--threads", min=0, max=MAX_THREADS, help="0: one for each physical core."),
]
Bias = Annotated[bool, typer.Option(help="Biases in linear layers and norms of GPT-2.")]
PeerPython = Annotated[
    str,
    typer.Option("--peer-python", help="Interpreter that has what the peers need."),
]


def can_be_written(path: Path | None) -> Path | None:
    """Refuse a file of ``--json`` in a folder that is not there, before anything is measured."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        stop(f"--json: expected a file in a folder that exists, got '{path}'", 2)
    return path


JsonFile = Annotated[
    Path | None,
    typer.Option("--json", callback=can_be_written, help="Write the results to this file."),
]


def parse_peers(text: str | None, size: Size) -> tuple[str, ...]:
    """Turn ``torch,torch-compile`` into names: none of an empty text, a size's all of None."""
    known = peers_of(size)
    if text is None:
        return known
    peers = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [peer for peer in peers if peer not in known]
    if unknown or len(set(peers)) < len(peers):
        raise ValueError(
            f"--peers: expected different names of {', '.join(known)} for a size of the family "
            f"{size.family.name}, comma-separated, got {text!r}"
        )
    return peers


def contestants(
    size: Size,
    threads: int,
    precision: Precision,
    checkpointing: str = "none",
    plain: bool = False,
    peers: str | None = "",
) -> tuple[Contestant, ...]:
    """Name the sides: ours first, then ours without what was asked for, then the peers.

    Raises
    ------
    ValueError
        With one sentence that says what was expected.
    """
    ours = Contestant(OURS, OURS, threads, precision.value, parse_checkpointing(checkpointing))
    plain = plain or precision is Precision.fp16  # which has no peer to be verified against
    if plain and (ours.precision, ours.activation_checkpointing) == ("fp32", "none"):
        raise ValueError("--plain: expected another precision or checkpointing to compare with")
    theirs = tuple(Contestant(p, p, threads, precision.value) for p in parse_peers(peers, size))
    return (ours, *((Contestant(PLAIN, OURS, threads),) if plain else ()), *theirs)


def attempt(measuring: Callable[[], T]) -> T:
    """Measure, and end with exit code 1 if a side fails or computes something else."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the sides are ended, too
    try:
        return measuring()
    except (LossMismatchError, SideFailedError) as error:
        stop(str(error), 1)
