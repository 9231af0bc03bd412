"""Texts as JSON lines, plain and compressed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import zstandard
from chat_templates import PLAIN, tokenizer_with
from fuzz.mutators import changed_bytes, changed_lines

from tisslm.datasets import PackedDataset
from tisslm.datasets.encoding import encode_documents
from tisslm.datasets.sources import BadRecords, ReadOptions, read_documents
from tisslm.tokenizers.byte import ByteTokenizer

RECORDS = [
    {"text": "It was the best of times, it was the worst of times.", "id": 1, "score": 0.5},
    {"text": "Ein Satz mit Umlauten: äöü, und 🙂.", "meta": {"tags": ["a", "b"], "n": [1, [2]]}},
    {"prompt": "Name a river.", "completion": "The Danube."},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    {"instruction": "Add.", "input": "1 and 2", "output": "3"},
] * 4
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


class Files:
    """One file of records in all forms that are read."""

    def __init__(self, folder: Path) -> None:
        self.good = "".join(f"{json.dumps(record)}\n" for record in RECORDS).encode()
        self.tokenizers = {"plain": ByteTokenizer(), "template": tokenizer_with(PLAIN["chatml"])}

    def copy(self, case: Path) -> None:
        case.mkdir(parents=True)
        (case / "text.jsonl").write_bytes(self.good)

    def change(self, rng: Random, case: Path) -> None:
        case.mkdir(parents=True)
        ending = rng.choice(["", "", "", ".gz", ".zst"])
        data = changed_lines(rng, self.good) if not ending or rng.random() < 0.5 else self.good
        data = PACKED[ending](data)
        if ending:
            data = changed_bytes(rng, data)
        (case / f"text.jsonl{ending}").write_bytes(data)

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        path = next(case.iterdir())

        def use(options: ReadOptions) -> None:
            documents = read_documents(path, options=options)
            found = encode_documents(
                documents, self.tokenizers[options.chat], refuse=options.bad.refuse
            )
            rows = PackedDataset(found, 16, packing="whole")
            for i in range(0, len(rows), 20):
                rows.window(i)

        skipping = BadRecords("skip", quiet=True)
        return [
            lambda: use(ReadOptions()),
            lambda: use(ReadOptions(chat="plain")),
            lambda: use(ReadOptions(bad=skipping)),
        ]
