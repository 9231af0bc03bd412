"""A folder of a published model: configuration, index of shards, or weights changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.mutators import changed_bytes, changed_json
from model_folders import model_of, save, write_shards

from tisslm.models.transformer import Transformer

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4}
SLIDING = ["sliding_attention", "full_attention"]
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"bias": False},
    "llama": {"rope_scaling": YARN, "n_kv_head": 2},
    "mistral": {"window": 5, "tie_embeddings": True},
    "qwen2": {"window": 5, "layer_types": SLIDING},
    "qwen3": {"head_dim": 16},
    "gpt_neox": {},
}


class Files:
    """A folder of each family, half of them in shards, with our own settings and without."""

    def __init__(self, folder: Path) -> None:
        self.good = []
        for i, (family, keys) in enumerate(MODELS.items()):
            model = model_of(family, **keys)
            place = save(model, folder / family, own=i % 3 != 0)
            if i % 2:
                exchange = model.exchange()
                assert exchange is not None
                (place / "model.safetensors").unlink()
                write_shards(place, dict(exchange.outward(model.parameters.state())))
            self.good.append(place)

    def copy(self, case: Path) -> None:
        shutil.copytree(self.good[1], case)

    def change(self, rng: Random, case: Path) -> None:
        shutil.copytree(rng.choice(self.good), case)
        texts = sorted(case.glob("*.json"))
        path = rng.choice(texts if rng.random() < 0.8 else sorted(case.iterdir()))
        content = path.read_bytes()
        if path.suffix == ".json" and rng.random() < 0.8:
            content = changed_json(rng, content)
        else:  # of weights, the header: what follows is numbers
            content = changed_bytes(rng, content, 4096)
        path.write_bytes(content)

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def use() -> None:
            model = Transformer.from_pretrained(case, seq_len=4, dropout=0.0)
            with np.errstate(all="ignore"):
                model.forward(np.zeros((1, 4), np.int32))

        return [lambda: Transformer.from_pretrained(case), use]
