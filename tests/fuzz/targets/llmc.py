"""Token files of llm.c and nanoGPT, with the latter's ``meta.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.mutators import changed_bytes, changed_json, changed_numbers

from tisslm.datasets import PackedDataset
from tisslm.datasets.sources import ReadOptions, read_tokens

#: Magic, version and type of llm.c's two kinds, and an end of text.
KINDS = [(20240520, 1, "<u2", 50256), (20240801, 7, "<u4", 128000)]


def content(magic: int, version: int, dtype: str, end: int) -> bytes:
    """Return a file of 600 ids in documents of 50."""
    ids = np.random.default_rng(version).integers(0, 50000, 600).astype(dtype)
    ids[::50] = end
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids)
    return header.tobytes() + ids.tobytes()


class Files:
    """Three files: llm.c's of both kinds, and nanoGPT's."""

    def __init__(self, folder: Path) -> None:
        self.good = {f"llmc-{kind[1]}.bin": content(*kind) for kind in KINDS}
        self.good["nano.bin"] = self.good["llmc-1.bin"][1024:]
        self.good["meta.json"] = json.dumps({"vocab_size": 50304, "stoi": {"a": 1}}).encode()

    def copy(self, case: Path) -> None:
        case.mkdir(parents=True)
        for name, data in self.good.items():
            (case / name).write_bytes(data)

    def change(self, rng: Random, case: Path) -> None:
        self.copy(case)
        path = case / rng.choice(sorted(self.good))
        data = path.read_bytes()
        if path.suffix == ".json" and rng.random() < 0.8:
            data = changed_json(rng, data)
        elif rng.random() < 0.5:
            start = 0 if rng.random() < 0.7 else 1024
            data = changed_numbers(rng, data[:1024], start, 4) + data[1024:]
        else:
            data = changed_bytes(rng, data, rng.choice([16, 2000]))
        path.write_bytes(data)

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def use(name: str, packing: str, options: ReadOptions) -> None:
            rows = PackedDataset(read_tokens(case / name, options=options), 16, packing=packing)
            for i in range(0, len(rows), 5):
                rows.window(i)

        ended = ReadOptions(end_of_text=50256, vocab_size=128256)
        return [
            lambda name=name, packing=packing, options=options: use(name, packing, options)
            for name in sorted(self.good)
            if name.endswith(".bin")
            for packing, options in (("whole", ended), ("stream", ReadOptions()))
        ]
