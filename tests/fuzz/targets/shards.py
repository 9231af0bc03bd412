"""Token shards: ids, headers, index, mask, tokenizer or manifest changed, sealed again or not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutators import changed_bytes, changed_json, changed_numbers

from tisslm.datasets import PackedDataset
from tisslm.datasets.shard_checks import file_digest
from tisslm.datasets.shards import TokenShards, shard_splits, shards_tokenizer
from tisslm.datasets.sources import ReadOptions, read_tokens
from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.workflows.tokenize import ShardFolder, tokenize

TEXT = "It was the best of times, it was the worst of times. " * 3
RECORDS = [{"text": f"{i}. {TEXT[i:]}"} for i in range(30)]
CHATS = [{"prompt": "Say it: ", "completion": TEXT[i:]} for i in range(10)]


class Files:
    """A folder of shards of two files and two splits, with masks."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        text = folder / "text.jsonl"
        text.write_text("".join(json.dumps(record) + "\n" for record in RECORDS + CHATS))
        tokenizer = BpeTokenizer.from_text(TEXT, vocab_size=300, special_tokens=["<|endoftext|>"])
        self.good = folder / "shards"
        with ShardFolder(self.good, tokenizer, "bpe", 1000) as shards:
            tokenize([text], tokenizer, shards, ReadOptions(), valid_fraction=0.2)
            shards.finish([text])

    def copy(self, case: Path) -> None:
        shutil.copytree(self.good, case)

    def change(self, rng: Random, case: Path) -> None:
        self.copy(case)
        path = rng.choice(sorted(case.iterdir()))
        content = path.read_bytes()
        if path.suffix == ".json" and rng.random() < 0.8:
            content = changed_json(rng, content)
        elif path.suffix == ".idx" and rng.random() < 0.8:
            content = changed_numbers(rng, content, 16, 8)
        elif path.suffix == ".bin" and rng.random() < 0.5:
            content = changed_numbers(rng, content, 0 if rng.random() < 0.5 else 1024, 2)
        else:
            content = changed_bytes(rng, content)
        path.write_bytes(content)
        if path.name != "shards.json" and rng.random() < 0.7:
            _seal(case, path)

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def use(packing: str, split: str) -> None:
            folder, _ = shard_splits(case)
            documents = read_tokens(folder.with_stem(split)) if split == "train" else None
            documents = documents or TokenShards(case).documents(split)
            rows = PackedDataset(documents, 16, packing=packing)
            for i in range(len(rows)):
                rows.window(i)

        return [
            lambda: use("whole", "train"),
            lambda: use("stream", "train"),
            lambda: use("whole", "valid"),
            lambda: TokenShards(case, verify=True),
            lambda: BpeTokenizer.from_state(shards_tokenizer(case)[1]).encode(TEXT),
        ]


def _seal(case: Path, path: Path) -> None:
    """Let the manifest say what a file is now."""
    manifest = json.loads((case / "shards.json").read_bytes())
    size, digest = path.stat().st_size, file_digest(path)
    manifest["files"][path.name] = {"bytes": size, "sha256": digest}
    (case / "shards.json").write_text(json.dumps(manifest))
