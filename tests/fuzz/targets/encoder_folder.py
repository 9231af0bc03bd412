"""A folder of sentence-transformers: its modules, their configurations, or its arrays changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from embedding_runs import shape_of
from fuzz.mutators import changed_bytes, changed_json

from tisslm.contracts import TextBatch
from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.models.huggingface.sentence_transformers import read_text_form
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.export import TextForm, write_folder


class Files:
    """A folder with a projection, and one without, which is normalized."""

    def __init__(self, folder: Path) -> None:
        form = TextForm(12, {"query": "q: "}, "dot")
        folder.mkdir()
        self.good = []
        for name, changes in (("a", {"projection": 6, "normalize": False}), ("b", {})):
            model = TextEncoder(shape_of(vocab_size=256, **changes), seed=1)
            write_folder(folder / name, model, ByteTokenizer(), texts=form)
            self.good.append(folder / name)

    def copy(self, case: Path) -> None:
        shutil.copytree(self.good[0], case)

    def change(self, rng: Random, case: Path) -> None:
        shutil.copytree(rng.choice(self.good), case)
        files = sorted(case.rglob("*.json")) if rng.random() < 0.8 else sorted(case.rglob("*.*"))
        path = rng.choice([file for file in files if not file.name.startswith("tokenizer")])
        content = path.read_bytes()
        if path.suffix == ".json" and rng.random() < 0.8:
            content = changed_json(rng, content)
        else:  # of weights, the header: what follows is numbers
            content = changed_bytes(rng, content, 4096)
        path.write_bytes(content)

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def use() -> None:
            model = TextEncoder.from_pretrained(case, dropout=0.0)
            with np.errstate(all="ignore"):
                model.embed(TextBatch.pack([np.zeros(3, np.int32)], model.seq_len))

        return [lambda: read_text_form(case), use]
