"""Embedding: texts per second of an encoder, ours beside sentence-transformers, in turns.

    python benchmarks/embeddings.py runs/wordnet/best words.txt --peer-python ~/torch-env/bin/python

The peer reads the folder that ``tisslm export`` writes of the same model, and must give the same
vectors before anything is timed.

What does not live here: what trains an encoder (``recipes/wordnet.toml``).
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from command import JsonFile, PeerPython, Rounds, Threads
from machine import describe, say, stop, usable_cores, warn_if_busy, write_json
from protocol import Side, SideFailedError, UnavailableError

from tisslm import load_encoder, ops
from tisslm.workflows.export import export

SIDES = Path(__file__).parent / "sides"
OURS, PEER = "tisslm", "sentence-transformers"
ALIKE = 100  # texts whose vectors must be the peer's before anything is timed
#: Of numbers of vectors of length 1. Both sides round in float32, through all layers, in sums of
#: another order: 2e-4 at 30 layers. Other weights, or another pooling, are 1e-1 apart.
TOLERANCE = 1e-3


def start_peer(stack: ExitStack, python: str, model: Path, threads: int) -> Side | None:
    """Start the peer on the model as a folder; None, with the reason said, if it cannot run."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="embeddings-")))
    export(model, folder / "model")
    env = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": str(threads)}
    try:
        side = Side(PEER, [python, str(SIDES / "sentence_encoder.py")], env, folder / "log")
        stack.callback(side.close)
        told = side.ask("prepare", folder=str(folder / "model"), threads=threads)
        say(f"{PEER}: {told['about']}")
    except UnavailableError as error:
        say(f"{PEER} is left out: {error}")
        return None
    return side


def of_peer(side: Side, texts: list[str], batch: int, vectors: bool = False) -> tuple[Any, float]:
    """Return the peer's vectors, if they are asked for, and the seconds that it took."""
    found = side.ask("encode", texts=texts, batch_size=batch, vectors=vectors)
    return found["vectors"], found["seconds"]


def check_alike(ours: np.ndarray, peers: Any) -> None:
    """Stop unless both sides compute the same vectors."""
    apart = float(np.abs(ours - np.asarray(peers)).max())
    if not apart <= TOLERANCE:
        stop(f"not the same computation: vectors are up to {apart:.1e} apart", 1)


def run(
    model: Annotated[Path, typer.Argument(help="A run or a checkpoint of an encoder.")],
    file: Annotated[Path, typer.Argument(help="Texts, one in a line.")],
    peer_batch: Annotated[int, typer.Option(min=1, help="Texts of a pass of the peer's.")] = 32,
    rounds: Rounds = 5,
    threads: Threads = 0,
    peer_python: PeerPython = "",
    json: JsonFile = None,
) -> None:
    """Time the embedding of all texts of a file by each side."""
    texts = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not texts:
        stop(f"{file}: expected texts, one in a line, and it has none", 2)
    threads = threads or usable_cores()
    ops.set_threads(threads)
    load = warn_if_busy(threads)
    encoder = load_encoder(model)
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        peer = start_peer(stack, peer_python, model, threads) if peer_python else None
        first = encoder.encode(texts[:ALIKE], normalize=True)
        if peer is not None:
            check_alike(first, of_peer(peer, texts[:ALIKE], peer_batch, vectors=True)[0])
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}, {len(texts)} texts on each side")
            begin = perf_counter()
            encoder.encode(texts)
            rates.setdefault(OURS, []).append(len(texts) / (perf_counter() - begin))
            if peer is not None:
                try:
                    _, seconds = of_peer(peer, texts, peer_batch)
                except SideFailedError as error:
                    stop(str(error), 1)
                rates.setdefault(PEER, []).append(len(texts) / seconds)
    print(table(rates))
    about = {"model": str(model), "threads": threads, "load": load, "machine": describe()}
    write_json(json, {**about, "texts": len(texts), "texts_per_s": rates})


def table(rates: dict[str, list[float]]) -> str:
    """Lay the results out for reading: medians over the rounds, and the fastest."""
    lines = [f"{'':24}{'texts/s':>10}{'fastest':>10}"]
    for who, found in rates.items():
        lines.append(f"{who:24}{statistics.median(found):10.0f}{max(found):10.0f}")
    if PEER in rates:
        pairs = zip(rates[OURS], rates[PEER], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        lines.append(f"{OURS} embeds {ratio:.2f} times as many texts per second as {PEER}")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(run)
