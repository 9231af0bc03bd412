"""How long it takes to make a batch from token files: processor time of the thread that makes it.

    python benchmarks/batches.py

A nanoGPT file and token shards are written to a temporary folder first.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import typer

from tisslm.datasets.documents import TokenDocuments
from tisslm.datasets.packed import PackedDataset
from tisslm.datasets.sources import read_tokens
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.tokenize import ShardFolder

SHAPES = ((8, 64), (64, 64), (64, 256), (64, 1024))
ROUNDS, WARM_UP = 5, 20


def write_files(folder: Path, tokens: int) -> dict[str, Path]:
    """Write the files and return what to read, by name."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 256, tokens, dtype=np.uint16)
    ids.tofile(folder / "train.bin")
    with ShardFolder(folder / "shards", ByteTokenizer(), "byte", tokens // 2) as shards:
        ends = np.cumsum(rng.integers(50, 650, tokens // 350))
        for document in np.split(ids, ends[ends < tokens]):
            shards.split("train").add(document, True)
            shards.split("train").end_document()
        shards.finish()
    return {"nanogpt": folder / "train.bin", "shards": folder / "shards"}


def microseconds(documents: TokenDocuments, rows: int, seq_len: int, batches: int) -> float:
    """Return the processor time of a batch, the best of some rounds."""
    stream = PackedDataset(documents, seq_len).stream(rows, seed=1)
    for _ in range(WARM_UP):
        next(stream)
    best = np.inf
    for _ in range(ROUNDS):
        start = time.thread_time()
        for _ in range(batches):
            next(stream)
        best = min(best, (time.thread_time() - start) / batches)
    return float(best) * 1e6


def run(tokens: int = 20_000_000, batches: int = 300) -> None:
    """Print a line for each kind of file and shape of a batch."""
    with tempfile.TemporaryDirectory() as folder:
        for name, path in write_files(Path(folder), tokens).items():
            documents = read_tokens(path)
            for rows, seq_len in SHAPES:
                spent = microseconds(documents, rows, seq_len, batches)
                print(f"{name} {rows} x {seq_len}: {spent:.0f} microseconds a batch")


if __name__ == "__main__":
    typer.run(run)
