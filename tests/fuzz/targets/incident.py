"""The file of a step that was not applied, which ``tisslm replay`` makes again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.mutators import changed_bytes, changed_json
from fuzz.targets.checkpoint import ALPHABET, make_trainer

from tisslm.training.refusals import incident_files
from tisslm.workflows.replay import read_incident, replay

NAME = "nonfinite-step-1.json"
FINDING = {"recurs": True, "fault": {"pass": "forward", "where": "blocks.0.mlp", "op": "gelu"}}


class Files:
    """Files of both kinds, with arrays and without, beside the run's checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(2)
        x, y = rng.integers(0, len(ALPHABET), (2, 2, 8)).tolist()
        common = {"kind": "nonfinite", "step": 1, "position": 0, "loss": "NaN", "grad_norm": 1.0,
                  "windows": [3, 4], "rows": 2, "seed": 42, "rows_per_update": 2,
                  "checkpoint": None, "file": NAME, "command": None, "python": ["a", "b"],
                  "arrays": None, "finding": FINDING}  # fmt: skip
        self.good = [
            common,
            common | {"kind": "spike", "loss": 9.5, "finding": None, "step": 2, "position": 1},
            common | {"windows": None, "arrays": {"x": x, "y": y}},
            common | {"windows": None, "arrays": {"x": x, "y": y, "start": [[0] * 8] * 2}},
        ]

    def copy(self, case: Path) -> None:
        case.mkdir(parents=True)
        (case / NAME).write_text(json.dumps(self.good[0]))

    def change(self, rng: Random, case: Path) -> None:
        case.mkdir(parents=True)
        change = changed_json if rng.random() < 0.8 else changed_bytes
        (case / NAME).write_bytes(change(rng, json.dumps(rng.choice(self.good)).encode()))

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def again() -> None:
            shutil.rmtree(self.folder / "run", ignore_errors=True)
            done = replay(make_trainer(self.folder), file=case / NAME, run=case)
            json.dumps(done.as_json())

        return [
            lambda: read_incident(case / NAME),
            again,
            lambda: incident_files.set_aside(case, 2**60),
        ]
