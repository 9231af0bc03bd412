"""The check of sinks: a right one passes, and each wrong one fails by its own property."""

from __future__ import annotations

import pytest

from tisslm.contracts import Sink, Text
from tisslm.testing import check_sink


class Right(Sink):
    """One line a step, appended."""

    mode, encoding = "a", "utf-8"

    def open(self, run):
        self.file = (run.directory / "lines.txt").open(self.mode, encoding=self.encoding)

    def write(self, step, metrics):
        self.file.write(f"{step} {dict(metrics)}\n")

    def close(self):
        self.file.close()


class Ascii(Right):
    encoding = "ascii"


class WritesOver(Right):
    mode = "w"


class WritesOverUnlessResumed(Right):
    def open(self, run):
        self.mode = "a" if run.resumed_step else "w"
        super().open(run)


class EmptiesTheDirectory(Right):
    def open(self, run):
        for path in run.directory.iterdir():
            path.unlink()
        super().open(run)


class EditsTheMetrics(Right):
    def write(self, step, metrics):
        metrics["step"] = step
        super().write(step, metrics)


class NeedsFinite(Right):
    def write(self, step, metrics):
        self.file.write(f"{round(metrics.get('train/loss', 0))}\n")


class NeedsALoss(Right):
    def close(self):
        super().close()
        print(f"ended at {self.last}")

    def write(self, step, metrics):
        self.last = metrics["train/loss"]
        super().write(step, metrics)


class OneForAll(Right):
    shared = None

    def open(self, run):
        if OneForAll.shared is None or OneForAll.shared.closed:
            super().open(run)
            OneForAll.shared = self.file
        self.file = OneForAll.shared

    def write(self, step, metrics):
        if not self.file.closed:
            super().write(step, metrics)


class SaysItTakesTexts(Right):
    """Writes texts as they are, which not every encoding can."""

    accepts = frozenset({float, Text})

    def write(self, step, metrics):
        texts = [value.text for value in metrics.values() if isinstance(value, Text)]
        super().write(step, metrics if not texts else {})
        self.file.write("".join(texts))


class AcceptsATuple(Right):
    accepts = (float,)


class AcceptsNoNumbers(Right):
    accepts = frozenset({str})


WRONG = [
    (Ascii, "opens writes and closes"),
    (WritesOver, "goes on after a resume"),
    (WritesOverUnlessResumed, "a new run keeps what an earlier one wrote"),
    (EmptiesTheDirectory, "opens writes and closes"),
    (EditsTheMetrics, "opens writes and closes"),
    (NeedsFinite, "takes numbers that are not finite"),
    (NeedsALoss, "a run without steps leaves no trouble"),
    (OneForAll, "two runs do not share anything"),
    (SaysItTakesTexts, "takes every kind that it accepts"),
    (AcceptsATuple, "accepts floats"),
    (AcceptsNoNumbers, "accepts floats"),
]


def test_a_right_sink_passes():
    assert check_sink(Right).n_assertions > 10


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_sink_fails_by_its_property(refuses, wrong, prop):
    refuses(check_sink, wrong, prop)
