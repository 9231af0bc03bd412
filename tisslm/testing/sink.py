"""Conformance checks of sinks: they must keep the contract ``tisslm.contracts.Sink``."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tisslm.contracts import Histogram, RunInfo, Sink, Text
from tisslm.testing.checks import Checks, Report, keeps_final_methods, own_metrics_are_declared
from tisslm.testing.examples import option_sets

__all__ = ["check_sink"]

Make = Callable[[], Sink]

LAST_STEP = 6


def check_sink(
    cls: type[Sink], *, options: Mapping[str, Any] | None = None, name: str = ""
) -> Report:
    """Check that a sink class keeps its contract, in a temporary run directory.

    Parameters
    ----------
    cls : type
    options : mapping, optional
        Options to build it with. By default ``cls.test_options``, or its own defaults, with a
        stream in memory if it takes one. A sink of a service needs options to stay offline.
    name : str, optional
        Its name in messages.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that fails.
    """
    checks = Checks(name or f"sink {cls.__name__}", Sink)
    checks.run(keeps_final_methods, cls)
    checks.run(accepts_floats, cls)
    for chosen in option_sets(cls, options, examples={"stream": io.StringIO()}):

        def make(chosen: Mapping[str, Any] = chosen) -> Sink:
            return cls(**chosen)

        for prop in PROPERTIES:
            with tempfile.TemporaryDirectory() as folder:
                checks.run(prop, make, Path(folder), options=chosen)
    return checks.report()


def run_info(directory: Path, resumed_step: int = 0) -> RunInfo:
    """Return the description of a run in a directory."""
    config = {"training": {"seed": 1, "learning_rate": 1e-3}, "model": {"preset": "char-tiny"}}
    return RunInfo(
        directory,
        "größe 1",
        config=config,
        resumed_step=resumed_step,
        max_steps=LAST_STEP,
        parameters=1234,
    )


def metrics(step: int) -> Mapping[str, object]:
    """Return read-only metrics: numbers of several types, names that come and go."""
    values: dict[str, object] = {
        "train/loss": 4.0 - 0.1 * step,
        "train/learning_rate": np.float32(1e-3),
        "train/tokens": 4096 * step,
        "grad_norm/blocks.0.mlp.up.weight": np.float64(0.5),
    }
    if step % 2 == 0:
        values |= {"eval/loss": 3.5, 'größe/验证, "q"\n': 1.0}
    return MappingProxyType(values)


@contextmanager
def opened(make: Make, run: RunInfo) -> Iterator[Sink]:
    """Open a sink, and close it also after an error."""
    sink = make()
    sink.open(run)
    try:
        yield sink
    finally:
        sink.close()


def session(make: Make, run: RunInfo, steps: range) -> None:
    """Open a sink, write the metrics of some steps, and close it."""
    with opened(make, run) as sink:
        for step in steps:
            sink.write(step, metrics(step))


def sizes(directory: Path) -> dict[Path, int]:
    """Return the files below a directory and their sizes in bytes."""
    return {p: p.stat().st_size for p in directory.rglob("*") if p.is_file()}


def accepts_floats(checks: Checks, cls: type[Sink]) -> None:
    """Check that ``accepts`` is a frozenset of types that contains float."""
    kinds = cls.accepts
    checks.that(isinstance(kinds, frozenset), "accepts to be a frozenset", type(kinds).__name__)
    checks.that(float in kinds, "float in accepts", kinds)
    checks.that(all(isinstance(kind, type) for kind in kinds), "types in accepts", kinds)


def opens_writes_and_closes(checks: Checks, make: Make, directory: Path) -> None:
    """Check that a run of a few steps can be written, with names in any script."""
    note = directory / "note.txt"
    note.write_text("not the sink's", encoding="utf-8")
    session(make, run_info(directory), range(1, LAST_STEP + 1))
    kept = note.is_file() and note.read_text(encoding="utf-8")
    checks.same(kept, "not the sink's", "a file of others in the run directory")


def takes_numbers_that_are_not_finite(checks: Checks, make: Make, directory: Path) -> None:
    """Check that a run that diverges can be logged to its end."""
    values = (float("nan"), float("inf"), float("-inf"), np.float32("nan"))
    with opened(make, run_info(directory)) as sink:
        for step, value in enumerate(values):
            result: object = sink.write(step + 1, {"train/loss": value})
            checks.that(result is None, "None from write", result)


def a_run_without_steps_leaves_no_trouble(checks: Checks, make: Make, directory: Path) -> None:
    """Check that the sink can be closed at once, as after an error before the first step."""
    for resumed_step in (0, 3):
        session(make, run_info(directory, resumed_step), range(0))
        checks.that(directory.is_dir(), "the run directory to stay", "none")


def goes_on_after_a_resume(checks: Checks, make: Make, directory: Path) -> None:
    """Check that steps 5 and 6 of a run resumed from 4 follow the earlier ones."""
    session(make, run_info(directory), range(1, 6))
    before = sizes(directory)
    session(make, run_info(directory, resumed_step=4), range(5, LAST_STEP + 1))
    after = sizes(directory)
    gone = [p.name for p in before if p not in after]
    checks.that(not gone, "the files of the first part", f"no {gone}")
    total = sum(after.values())
    at_least = sum(before.values())
    checks.that(total >= at_least, f"at least {at_least} bytes after one more step", total)


def a_new_run_keeps_what_an_earlier_one_wrote(checks: Checks, make: Make, directory: Path) -> None:
    """Check that a shorter run in the same directory does not overwrite a longer one."""
    session(make, run_info(directory), range(1, LAST_STEP + 1))
    before = sum(sizes(directory).values())
    session(make, run_info(directory), range(1, 2))
    after = sum(sizes(directory).values())
    checks.that(after >= before, f"at least {before} bytes", after)


def two_runs_do_not_share_anything(checks: Checks, make: Make, directory: Path) -> None:
    """Check that two sinks open at once write as many files each."""
    folders = [directory / "one", directory / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (run_info(folder) for folder in folders)
    with opened(make, first) as one, opened(make, second) as two:
        for step in range(1, 4):
            one.write(step, metrics(step))
            two.write(step, metrics(step))
    counts = [len(sizes(folder)) for folder in folders]
    checks.same(counts[1], counts[0], "number of files of the second run")


def takes_every_kind_that_it_accepts(checks: Checks, make: Make, directory: Path) -> None:
    """Check histograms and texts, odd ones included, if the sink accepts them."""
    values: dict[type, tuple[object, ...]] = {
        Histogram: (
            Histogram.of(np.linspace(-1.0, 1.0, 100)),
            Histogram.of(np.zeros(3, dtype=np.float32), bins=1),
            Histogram(np.array([0, 2, 0]), np.array([0.0, 0.5, 0.5, 2.0]), 1.0, 0.5),
            Histogram(np.array([0]), np.array([0.0, 1.0]), 0.0, 0.0),
        ),
        Text: (Text("größe\n<b>\x00 验证\r\n"), Text(""), Text("lone \ud800")),
    }
    with opened(make, run_info(directory)) as sink:
        for kind, examples in values.items():
            if kind not in sink.accepts:
                continue
            for step, value in enumerate(examples, 1):
                result: object = sink.write(step, {"sample/1": value, "train/loss": 1.0})
                checks.that(result is None, "None from write", result)
    checks.that(directory.is_dir(), "the run directory to stay", "none")


PROPERTIES: tuple[Callable[[Checks, Make, Path], None], ...] = (
    opens_writes_and_closes,
    takes_numbers_that_are_not_finite,
    a_run_without_steps_leaves_no_trouble,
    goes_on_after_a_resume,
    a_new_run_keeps_what_an_earlier_one_wrote,
    two_runs_do_not_share_anything,
    takes_every_kind_that_it_accepts,
    own_metrics_are_declared,
)
