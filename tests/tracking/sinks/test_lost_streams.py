"""The sink ``console`` in a program of one's own, which may have lost its standard output."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import pytest

from tisslm.contracts import RunInfo, Text
from tisslm.tracking.sinks._forgiving import Forgiving
from tisslm.tracking.sinks.console import ConsoleSink

METRICS = {"train/loss": 1.0, "eval/loss": 2.0, "sample/0": Text("a\nb")}


def report(sink: ConsoleSink) -> None:
    sink.open(RunInfo(Path(), "x", max_steps=3))
    for step in (1, 2, 3):
        sink.write(step, METRICS)
    sink.close()


@pytest.mark.parametrize("style", ["auto", "lines", "bar", "screen"])
def test_a_daemon_has_no_standard_output(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    report(ConsoleSink(style=style))  # type: ignore[arg-type]


def broken() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", buffering=1)


def full() -> io.TextIOWrapper:
    return open("/dev/full", "w", buffering=1, encoding="utf-8")


@pytest.mark.parametrize("make", [broken, full])
@pytest.mark.parametrize("style", ["auto", "lines", "bar"])
def test_a_stream_that_fails_ends_nothing(make, style: str, monkeypatch) -> None:
    """Also not by rich, which leaves a process whose pipe is broken, nor in its thread."""
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    stream = make()
    report(ConsoleSink(style=style, stream=stream))  # type: ignore[arg-type]
    with pytest.raises(OSError, match=r"Broken pipe|No space"):
        stream.close()
    assert raised == []


def test_a_stream_that_was_closed_takes_what_it_is_given() -> None:
    stream = io.StringIO()
    forgiving = Forgiving(stream)
    assert forgiving.write("a") == 1
    stream.close()
    assert forgiving.write("bc") == 2
    forgiving.flush()
    assert not forgiving.isatty()
