"""Text to token shards, beside the tokenizers library alone: ``tokenizing.py --help``.

What does not live here: the tokenizing (``tisslm.workflows.tokenize``).
"""

from __future__ import annotations

import itertools
import json
import resource
import shutil
import statistics
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from command import JsonFile, Rounds
from machine import describe, say, stop, warn_if_busy, write_json
from tokenizers import Tokenizer

from tisslm.datasets.shards import TokenShards
from tisslm.datasets.sources import ReadOptions
from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.workflows.tokenize import ShardFolder, tokenize

#: Documents that the library is handed together; the fastest of 64, 256 and all.
LIBRARY_BATCH = 256
#: Text that the tokenizer is trained on, in characters.
TRAINING = 5 * 10**6
LONGEST = 300_000  # tables of data are no text

Documents = Annotated[
    Path | None,
    typer.Option("--documents", help="JSON lines with a text each; left out, Python's sources."),
]
Megabytes = Annotated[float, typer.Option("--mb", min=0.01, help="Text of a turn, in 10^6 bytes.")]
VocabSize = Annotated[int, typer.Option("--vocab-size", min=257, help="Of the tokenizer.")]
Memory = Annotated[
    bool, typer.Option("--memory", help="Ours once, as one document, and its largest memory.")
]


def python_sources() -> Iterator[str]:
    """Yield the sources of the standard library and of what is installed, over and over."""
    roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    files = [path for root in roots for path in sorted(root.rglob("*.py"))]
    while True:
        for path in files:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if 0 < len(text) <= LONGEST:
                yield text


def json_documents(path: Path) -> Iterator[str]:
    """Yield the field ``text`` of each line."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def take(documents: Iterator[str], n_bytes: float) -> list[str]:
    """Return the first documents that have so many bytes together."""
    found: list[str] = []
    for text in documents:
        found.append(text)
        n_bytes -= len(text.encode())
        if n_bytes <= 0:
            break
    return found


def train(documents: list[str], vocab_size: int) -> BpeTokenizer:
    """Train a tokenizer on the first of the documents."""
    lengths = itertools.accumulate(len(text) for text in documents)
    known = [text for text, length in zip(documents, lengths, strict=True) if length < TRAINING]
    return BpeTokenizer.from_texts(
        known or documents[:1], vocab_size=vocab_size, special_tokens=["<|endoftext|>"]
    )


# --------------------------------------------------------------------------- the sides


def library(inner: Tokenizer, documents: list[str]) -> float:
    """Encode documents that are in memory with the library alone; ids are not taken out."""
    begun = perf_counter()
    for start in range(0, len(documents), LIBRARY_BATCH):
        inner.encode_batch_fast(documents[start : start + LIBRARY_BATCH], add_special_tokens=False)
    return perf_counter() - begun


def ours(tokenizer: BpeTokenizer, source: Path, out: Path) -> float:
    """Read a file, encode it, and leave shards on the disk."""
    shutil.rmtree(out, ignore_errors=True)
    begun = perf_counter()
    with ShardFolder(out, tokenizer, "bpe") as folder:
        tokenize([source], tokenizer, folder, ReadOptions())
        folder.finish([source])
    return perf_counter() - begun


def verify(inner: Tokenizer, documents: list[str], out: Path) -> int:
    """Compare the shards with the library's ids of each document; return the number of tokens."""
    found = TokenShards(out, verify=True).documents()
    if len(found) != len(documents):
        stop(f"{len(found)} documents in the shards, {len(documents)} in the text", 1)
    for i, text in enumerate(documents):
        expected = inner.encode_batch_fast([text], add_special_tokens=False)[0].ids
        if not np.array_equal(found.document(i)[0][:-1], expected):
            stop(f"the ids of document {i} differ from the library's", 1)
    return len(found.tokens)


# --------------------------------------------------------------------------- the commands


def compare(documents: list[str], tokenizer: BpeTokenizer, rounds: int) -> dict[str, Any]:
    """Verify, then let both sides take turns."""
    inner = Tokenizer.from_str(tokenizer.json_text())
    with tempfile.TemporaryDirectory(prefix="tokenizing-") as folder:
        source, out = Path(folder) / "text.jsonl", Path(folder) / "shards"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in documents)
        ours(tokenizer, source, out)
        tokens = verify(inner, documents, out)
        library(inner, documents[: len(documents) // 4])
        seconds: dict[str, list[float]] = {"library": [], "ours": []}
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            seconds["library"].append(library(inner, documents))
            seconds["ours"].append(ours(tokenizer, source, out))
    n_bytes = sum(len(text.encode()) for text in documents)
    rates = {who: [n_bytes / 1e6 / s for s in times] for who, times in seconds.items()}
    return {
        "bytes": n_bytes,
        "documents": len(documents),
        "tokens": tokens,
        "mb_per_second": {who: statistics.median(values) for who, values in rates.items()},
        "all_mb_per_second": rates,
        "ratio": statistics.median(
            a / b for a, b in zip(seconds["library"], seconds["ours"], strict=True)
        ),
    }


def measure_memory(documents: Iterator[str], n_bytes: float, vocab_size: int) -> dict[str, Any]:
    """Tokenize a text file that is one document, and return the largest resident set."""
    tokenizer = train(take(documents, min(TRAINING, n_bytes)), vocab_size)
    with tempfile.TemporaryDirectory(prefix="tokenizing-") as folder:
        source = Path(folder) / "text.txt"
        written = 0
        with source.open("wb") as file:
            while written < n_bytes:
                written += file.write(next(documents).encode())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = ours(tokenizer, source, Path(folder) / "shards")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tokens = len(TokenShards(Path(folder) / "shards").documents().tokens)
    return {
        "bytes": written,
        "documents": 1,
        "tokens": tokens,
        "seconds": seconds,
        "mb_per_second": {"ours": written / 1e6 / seconds},
        "before_rss_bytes": before * 1024,
        "peak_rss_bytes": peak * 1024,
    }


def run(
    documents: Documents = None,
    mb: Megabytes = 50.0,
    vocab_size: VocabSize = 16_000,
    rounds: Rounds = 5,
    memory: Memory = False,
    json_file: JsonFile = None,
) -> None:
    """Compare text to shards with the library's encoding alone, after comparing the ids."""
    texts = python_sources() if documents is None else json_documents(documents)
    load = warn_if_busy(2)
    if memory:
        found = measure_memory(texts, mb * 1e6, vocab_size)
        print(
            f"{found['bytes'] / 1e6:,.0f} MB, one document, {found['tokens']:,} tokens: "
            f"{found['mb_per_second']['ours']:.2f} MB/s, largest resident set "
            f"{found['peak_rss_bytes'] / 2**20:,.0f} MiB ({found['before_rss_bytes'] / 2**20:,.0f} "
            "before)"
        )
    else:
        known = take(texts, mb * 1e6)
        found = compare(known, train(known, vocab_size), rounds)
        print(
            f"{found['bytes'] / 1e6:,.1f} MB, {found['documents']:,} documents, "
            f"{found['tokens']:,} tokens, vocabulary {vocab_size}"
        )
        for who, rate in found["mb_per_second"].items():
            print(f"{who:8} {rate:6.2f} MB/s")
        print(f"ours / library: {found['ratio']:.2f}")
    write_json(json_file, {"machine": describe(), "load_before": load, **found})


if __name__ == "__main__":
    typer.run(run)
