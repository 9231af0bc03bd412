"""Adapters beside a model that stays as it is: a folder of PEFT, whose files are changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.mutators import changed_bytes, changed_json
from model_folders import model_of, save

from tisslm import Transformer
from tisslm.config import AdapterConfig
from tisslm.models.tuning.tuning import Tuning
from tisslm.registry import load_registry
from tisslm.system.tensor_files import tensor_chunks
from tisslm.workflows.load_model import load_model


class Files:
    """Adapters of all maps of a small model."""

    def __init__(self, folder: Path) -> None:
        self._registry = load_registry()
        base = save(model_of("llama", n_kv_head=2), folder / "base")
        adapter = AdapterConfig(rank=2, targets=["q", "k", "v", "o", "gate", "up", "down"])
        model = Transformer.from_pretrained(base, tuning=Tuning(adapter=adapter))
        exchange = model.adapters()
        assert exchange is not None
        self.good = folder / "good"
        self.good.mkdir()
        (self.good / "adapter_config.json").write_text(json.dumps(exchange.config))
        with (self.good / "adapter_model.safetensors").open("wb") as file:
            for chunk in tensor_chunks(exchange.outward(model.parameters.state())):
                file.write(chunk)

    def copy(self, case: Path) -> None:
        shutil.copytree(self.good, case)

    def change(self, rng: Random, case: Path) -> None:
        shutil.copytree(self.good, case)
        path = rng.choice(sorted(case.iterdir()))
        content = path.read_bytes()
        if path.suffix == ".json" and rng.random() < 0.8:
            content = changed_json(rng, content)
        else:  # of arrays, the header: what follows is numbers
            content = changed_bytes(rng, content, 2048)
        path.write_bytes(content)

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def use() -> None:
            model, _ = load_model(case, registry=self._registry)
            with np.errstate(all="ignore"):
                model.forward(np.zeros((1, 4), np.int32))

        return [use]
