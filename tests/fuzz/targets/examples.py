"""Examples of embedding learning: pairs and scored pairs as JSON lines, WordNet's database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutators import changed_bytes, changed_lines

from tisslm.datasets.examples import ExampleDataset
from tisslm.tokenizers.byte import ByteTokenizer

PAIRS: list[dict[str, Any]] = [
    {"anchor": f"word {i}", "positive": "ein Wort, 🙂", "negative": ["a", "b"]} for i in range(9)
]
SCORED = [{"sentence1": f"a {i}", "sentence2": "b", "score": i / 9} for i in range(9)]
WORDNET = (
    "  1 This software and database is being provided to you\n"
    "00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is perceived; \"an entity\"\n"
    "00020103 00 s 02 outback(a) 0 elect(ip) 0 000 | sparsely populated (or \"empty\")  \n"
) * 3  # fmt: skip


def lines(records: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


class Files:
    """A file of records, or a folder like WordNet's."""

    def __init__(self, folder: Path) -> None:
        parts = ("noun", "verb", "adj", "adv")
        self.good = {
            "pairs.jsonl": lines(PAIRS),
            "scored.jsonl": lines(SCORED),
            **{f"wordnet/data.{part}": WORDNET.encode() for part in parts},
        }

    def copy(self, case: Path) -> None:
        for name, data in self.good.items():
            path = case / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def change(self, rng: Random, case: Path) -> None:
        self.copy(case)
        name = rng.choice(["pairs.jsonl", "scored.jsonl", "wordnet/data.noun", "wordnet/data.adj"])
        change = changed_lines if name.endswith("jsonl") and rng.random() < 0.7 else changed_bytes
        (case / name).write_bytes(change(rng, self.good[name]))

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def use(name: str, bad_records: Any) -> None:
            dataset = ExampleDataset(
                case / name, ByteTokenizer(), 64, bad_records=bad_records, held_out=False,
                valid_examples=1,
            )  # fmt: skip
            dataset.window(len(dataset) - 1)
            dataset.fingerprint()

        names = ("pairs.jsonl", "scored.jsonl", "wordnet")
        return [
            lambda name=name, bad=bad: use(name, bad)  # type: ignore[misc]
            for name in names
            for bad in ("error", "skip")
        ]
