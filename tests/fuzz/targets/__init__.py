"""What is changed and read back: a class for each kind of file, by the name of the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, Protocol

__all__ = ["TARGETS", "Target", "load"]

#: Name: the module that has its class ``Files``.
TARGETS = {
    "adapters": "fuzz.targets.adapters",
    "checkpoint": "fuzz.targets.checkpoint",
    "encoder-folder": "fuzz.targets.encoder_folder",
    "examples": "fuzz.targets.examples",
    "gguf": "fuzz.targets.gguf",
    "incident": "fuzz.targets.incident",
    "json-lines": "fuzz.targets.json_lines",
    "llm.c": "fuzz.targets.llmc",
    "metrics": "fuzz.targets.metrics",
    "model-folder": "fuzz.targets.model_folder",
    "shards": "fuzz.targets.shards",
    "tokenizer.json": "fuzz.targets.tokenizer_json",
    "tokenizer-folder": "fuzz.targets.tokenizer_folder",
    "toml": "fuzz.targets.toml",
    "vocabulary": "fuzz.targets.vocabulary",
}


class Target(Protocol):
    """Files of one kind. It is built with a folder of its own, in which the good ones are made."""

    def change(self, rng: Random, case: Path) -> None:
        """Write a changed copy into ``case``, a folder that does not exist; ``rng`` decides."""

    def copy(self, case: Path) -> None:
        """Write the good files into ``case``."""

    def readers(self, case: Path) -> Sequence[Callable[[], Any]]:
        """Return what reads and uses the files, each on its own."""


def load(name: str, folder: Path) -> Target:
    """Return a target of the table, or of any other module, with its good files in a folder."""
    made: Target = import_module(TARGETS.get(name, name)).Files(folder)
    return made
