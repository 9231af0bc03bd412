"""Configurations: TOML files, texts after ``--set``, environment variables, and what they plan."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.mutators import FLOATS, INTEGERS, changed_bytes

from tisslm import TokenDataset
from tisslm.cli.tokens.reading import key_values
from tisslm.config import RunConfig
from tisslm.config.toml_text import dump_toml
from tisslm.registry import load_registry
from tisslm.system.strict_toml import parse_toml
from tisslm.workflows.build.data import RunData
from tisslm.workflows.build.settling import settle_sizes
from tisslm.workflows.build.trainer import ReadRun, plan_run

GOOD = b"""
[model]
n_layer = 2
n_head = 2
n_kv_head = 1
n_embd = 32
seq_len = 16
dropout = 0.1
activation = "gelu"
[data]
path = "text.txt"
valid_fraction = 0.1
packing = "whole"
[tokenizer]
name = "char"
[optimizer]
name = "adamw"
beta1 = 0.8
beta2 = 0.95
weight_decay = 0.1
[scheduler]
name = "warmup_cosine"
warmup_steps = 10
min_lr = 1e-5
[loss]
name = "cross_entropy"
[training]
seed = 7
max_steps = 60
batch_size = 4
learning_rate = 1e-3
threads = 1
memory_limit = "2 GiB"
activation_checkpointing = "auto"
[log]
sinks = ["console", "jsonl"]
monitors = ["gradient_norms"]
jsonl = { path = "metrics.jsonl" }
"""

WORDS = ["0x" + "f" * 5000, "1" * 5000, "0b" + "1" * 100, "1e999", "-1e999", "nan", "inf", "-inf",
         "true", '""', '"a"', '"\\u0000"', '"\\u001b[2J"', "[]", "{}", "[[1], [2]]", "2020-01-01",
         "12:00:00", "[" * 2000 + "]" * 2000, "{a={b={c=1}}}", '"' + "a" * 5000 + '"',
         *map(str, INTEGERS), *map(repr, FLOATS)]  # fmt: skip
NUMBERS = [*map(str, INTEGERS), *map(repr, FLOATS)]
_VALUE = re.compile(rb"(?<== )[^\n]+")
_KEY = re.compile(rb"^[a-z_]+(?= = )", re.MULTILINE)


def changed_toml(rng: Random, content: bytes) -> bytes:
    """Change values, keys, lines or bytes of a TOML text."""
    if rng.random() < 0.2:
        return changed_bytes(rng, content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(rng.choice([_VALUE, _VALUE, _VALUE, _KEY]).finditer(content))
        if not places:
            continue
        place = rng.choice(places)
        words = NUMBERS if place[0][:1].isdigit() and rng.random() < 0.6 else WORDS
        new = rng.choice(words).encode() if place.re is _VALUE else rng.choice(places)[0]
        if rng.random() < 0.2:
            new = changed_bytes(rng, place[0])
        content = content[: place.start()] + new + content[place.end() :]
    return content


class Files:
    """A configuration of all sections; its data are not read again."""

    def __init__(self, folder: Path) -> None:
        tokens = np.arange(400, dtype=np.uint16) % 50
        self.data = RunData(TokenDataset(tokens, 16, vocab_size=50), None, None)
        self.registry = load_registry()

    def copy(self, case: Path) -> None:
        case.mkdir(parents=True)
        (case / "run.toml").write_bytes(GOOD)

    def change(self, rng: Random, case: Path) -> None:
        case.mkdir(parents=True)
        (case / "run.toml").write_bytes(changed_toml(rng, GOOD))

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        settings = _settings((case / "run.toml").read_text(errors="replace"))

        def plan() -> None:
            config = RunConfig.load(case / "run.toml", env={})
            parse_toml(dump_toml(config.resolved()))
            family, shape = settle_sizes(config.model, self.registry)
            shape = family.configure(**{**shape.values(), "vocab_size": 50})
            planner = plan_run(ReadRun(config, family, shape, self.data), self.registry)
            planner.alternatives()

        def shell() -> None:
            for section, key, value in settings:
                RunConfig.load(None, [f"{section}.{key}={value}"], env={})

        def environment() -> None:
            found = {
                f"TISSLM_{section.upper()}__{key.upper()}": value
                for section, key, value in settings
            }
            RunConfig.load(None, env=found)

        def options() -> None:
            key_values("--tokenizer-option", [f"{key}={value}" for _, key, value in settings])

        return [plan, shell, environment, options]


def _settings(content: str) -> list[tuple[str, str, str]]:
    """Return section, key and value of each line that has one, as a shell could have them."""
    found, section = [], "data"
    for line in content.replace("\0", "").splitlines():
        section = line.strip("[]") if line.startswith("[") else section
        key, equals, value = line.partition(" = ")
        if equals:
            found.append((section, key, value))
    return found
