"""A run directory: ``metrics.jsonl`` and the small files beside it, as report, top and replay see.

Drawing the figures of a report takes a second, so only some cases are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutators import changed_bytes, changed_json, changed_lines
from fuzz.targets.toml import changed_toml
from metric_lines import rows, write_run

from tisslm.checkpoint import owner
from tisslm.contracts import RunInfo
from tisslm.system.process_identity import Identity
from tisslm.tracking.report import catalogue, facts, write_report
from tisslm.tracking.report.reading import read_run
from tisslm.tracking.sinks.csv import CsvSink
from tisslm.tracking.sinks.jsonl import JsonlSink
from tisslm.tracking.terminal.attached_run import Attached
from tisslm.tracking.terminal.board import draw, record
from tisslm.tracking.terminal.ink import UNICODE
from tisslm.workflows.replay.record import read_record

DRAWN = 0.01  # of the cases


class Files:
    """A run of some steps with one layer."""

    def __init__(self, folder: Path) -> None:
        write_run(folder, rows(12, 1, look=6))
        running = vars(Identity.own()) | {"pid": 2**22 - 1}  # of no process
        (folder / ".owner.json").write_text(json.dumps(running))
        (folder / "metrics.csv").write_text("step,train/loss\n1,2.0\n2,1.5\n3,NaN\n")
        self.good = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.drawn = True
        owner.PATIENCE = 0.0  # a damaged file is looked at for two seconds, else

    def copy(self, case: Path) -> None:
        case.mkdir(parents=True)
        for name, content in self.good.items():
            (case / name).write_bytes(content)

    def change(self, rng: Random, case: Path) -> None:
        self.copy(case)
        self.drawn = rng.random() < DRAWN
        name = rng.choice([*sorted(self.good), *["metrics.jsonl"] * 4])
        change = {".json": changed_json, ".jsonl": changed_lines, ".toml": changed_toml}.get(
            Path(name).suffix, changed_bytes
        )
        change = changed_bytes if rng.random() < 0.2 else change
        (case / name).write_bytes(change(rng, self.good[name]))

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def look() -> None:
            attached = Attached(case)
            attached.refresh()
            draw(attached.history, attached.status(), 100, 40, UNICODE)
            record(attached.history, attached.status(), 80, UNICODE)

        def page() -> None:
            run = read_run(case)
            facts.summary_cards(run)
            facts.samples(run)
            facts.problem_box([run])
            catalogue.curves(run), catalogue.grids(run), catalogue.others(run)
            for table in (run.config, run.environment):
                facts.settings_table("Configuration", table)
                facts.comparison_table("Configuration", [run, run], [table, {}])
            facts.results_table([run])

        def go_on() -> None:
            for sink in (JsonlSink(), CsvSink()):
                sink.open(RunInfo(case, "run", resumed_step=6))
                sink.write(7, {"train/loss": 1.0, "new": 2.0})
                sink.close()

        drawn = [lambda: write_report([case], case / "report.html")] if self.drawn else []
        return [
            look,
            page,
            *drawn,
            lambda: read_record(case / "metrics.jsonl", case / "checkpoints", 1, 100),
            lambda: owner.check_free(case),
            go_on,
        ]
