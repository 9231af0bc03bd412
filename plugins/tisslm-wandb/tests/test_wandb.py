"""What an offline run of W&B has written is what it was given; resumed runs, ends, errors."""

from __future__ import annotations

import contextlib
import html
import json
import math
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tisslm_wandb import offline
from tisslm_wandb.sink import WandbSink

from tisslm.contracts import Histogram, RunInfo, Text
from tisslm.errors import ConfigError, DataError
from tisslm.testing import check_sink

Describe = Callable[..., RunInfo]


@pytest.fixture(autouse=True)
def alone(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Send whoever reaches for a network here: there is nobody, and nothing is left at home."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(home))
    monkeypatch.chdir(home)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        here = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "WANDB_BASE_URL"):
            monkeypatch.setenv(name, here)
        yield
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert [path for path in home.rglob("*") if path.is_file()] == []


def logged(directory: Path) -> list[dict[str, Any]]:
    return [line for path in offline.files(directory) for line in offline.history(path)]


def session(run: RunInfo, steps: range, offset: float = 0.0) -> None:
    sink = WandbSink()
    sink.open(run)
    for step in steps:
        sink.write(step, {"train/loss": step + offset})
    sink.close()


def record(path: Path, kind: str) -> list[Any]:
    """Return the other records of a file: the run itself, its end."""
    from wandb.proto import wandb_internal_pb2

    found = [wandb_internal_pb2.Record.FromString(part) for part in offline._records(path)]
    return [getattr(r, kind) for r in found if r.WhichOneof("record_type") == kind]


def fail(error: BaseException, sink: WandbSink) -> None:
    """Close a sink while an error is on its way, as a run does."""
    with contextlib.suppress(type(error)):
        try:
            raise error
        finally:
            sink.close()


def test_it_keeps_the_contract_of_sinks() -> None:
    assert check_sink(WandbSink).n_assertions > 10


def test_numbers_come_back_to_the_last_bit(run: Describe, tmp_path: Path) -> None:
    values = (0.1, 2**60 + 1, np.float32(0.1), 1e-300, math.inf, -math.inf, np.int64(7))
    sink = WandbSink()
    sink.open(run())
    for step, value in enumerate(values, 1):
        sink.write(step * 10, {"train/loss": value, 'a.b/验证, "q"\n': 1.0})
    sink.write(99, {"train/loss": math.nan})
    sink.close()
    found = logged(tmp_path)
    assert [line["global_step"] for line in found] == [10, 20, 30, 40, 50, 60, 70, 99]
    assert [line["train/loss"] for line in found[:-1]] == [
        value if isinstance(value, int) else float(value) for value in values
    ]
    assert math.isnan(found[-1]["train/loss"])
    assert found[0]['a.b/验证, "q"\n'] == 1.0


def test_histograms_and_texts_come_back(run: Describe, tmp_path: Path) -> None:
    histogram = Histogram.of(np.linspace(-1.0, 2.0, 100), bins=4)
    text = "a < b & c\n  東京" * 9000  # goes over many blocks of the file
    sink = WandbSink()
    sink.open(run())
    sink.write(5, {"weights/w": histogram, "sample/1": Text(text)})
    sink.close()
    (line,) = logged(tmp_path)
    assert line["weights/w"] == {
        "_type": "histogram",
        "values": histogram.counts.tolist(),
        "bins": histogram.edges.tolist(),
    }
    (path,) = offline.files(tmp_path)
    page = (path.parent / "files" / line["sample/1"]["path"]).read_text(encoding="utf-8")
    body = re.fullmatch(r"<pre [^>]*>(.*)</pre>", page, re.DOTALL)
    assert body is not None
    assert html.unescape(body[1]) == text


def test_the_run_has_its_name_project_and_settings(run: Describe, tmp_path: Path) -> None:
    sink = WandbSink(project="p", entity="e", group="g", tags=["a", "b"])
    sink.open(run())
    sink.close()
    (path,) = offline.files(tmp_path)
    (found,) = record(path, "run")
    assert (found.project, found.entity, found.run_group, found.display_name) == (
        "p",
        "e",
        "g",
        "größe",
    )
    assert list(found.tags) == ["a", "b"]
    settings = {item.key: json.loads(item.value_json) for item in found.config.update}
    assert settings["training"] == {"seed": 1, "learning_rate": 0.001}
    assert found.run_id == json.loads((tmp_path / "wandb-id.json").read_text())["id"]


# ------------------------------------------------------------------------------ sessions


def test_a_resumed_run_goes_on_with_its_id(run: Describe, tmp_path: Path) -> None:
    session(run(), range(1, 7))
    session(run(resumed_step=4), range(5, 7), offset=0.5)
    found = [(line["global_step"], line["train/loss"]) for line in logged(tmp_path)]
    assert found == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (5, 5.5), (6, 6.5)]
    first, second = offline.files(tmp_path)
    assert record(first, "run")[0].run_id == record(second, "run")[0].run_id
    session(run(), range(1, 2))
    third = offline.files(tmp_path)[-1]
    assert record(third, "run")[0].run_id != record(first, "run")[0].run_id


def test_a_run_that_ends_by_an_error_has_failed(run: Describe, tmp_path: Path) -> None:
    sink = WandbSink()
    sink.open(run())
    fail(ValueError("x"), sink)
    try:
        raise ValueError("an earlier attempt")
    except ValueError:
        session(run(resumed_step=1), range(2, 3))
    first, second = offline.files(tmp_path)
    assert [record(path, "exit")[0].exit_code for path in (first, second)] == [1, 0]


def test_what_a_killed_run_wrote_is_kept(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, time
from tisslm.contracts import RunInfo
from tisslm_wandb import offline
from tisslm_wandb.sink import WandbSink
directory = pathlib.Path({str(tmp_path)!r})
sink = WandbSink()
sink.open(RunInfo(directory, "killed"))
for step in range(1, 4):
    sink.write(step, {{"train/loss": step}})
(path,) = offline.files(directory)
for _ in range(600):  # it is written while the run goes on, once a second
    if len(list(offline.history(path))) == 3:
        os.kill(os.getpid(), 9)
    time.sleep(0.05)
"""
    paths = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, timeout=60)
    assert ended.returncode == -9
    assert [line["train/loss"] for line in logged(tmp_path)] == [1, 2, 3]


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"id": 3}', b'{"id": ""}', b"\xff"])
def test_a_damaged_file_is_one_sentence(run: Describe, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wandb-id.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        WandbSink().open(run(resumed_step=2))
    said = str(caught.value)
    assert said.startswith(f"{path}: the sink wandb cannot go on with it (")
    assert said.endswith("); delete it to begin a new run there")


def test_an_id_that_leads_elsewhere_is_one_sentence(run: Describe, tmp_path: Path) -> None:
    path = tmp_path / "wandb-id.json"
    path.write_bytes(b'{"id": "../x"}')
    with pytest.raises(ConfigError) as caught:
        WandbSink().open(run(resumed_step=2))
    assert str(caught.value) == (
        f"sink wandb: {path} does not hold the id of a W&B run; delete it to begin a new one"
    )


def test_an_online_run_without_an_account_is_one_sentence(
    run: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("No API key configured.\nUse `wandb login`.")

    import wandb

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ConfigError) as caught:
        WandbSink(mode="online").open(run())
    assert str(caught.value) == (
        "sink wandb: no run could be begun (RuntimeError: No API key configured.); run `wandb "
        'login` or set WANDB_API_KEY, set log.wandb.mode to "offline", or leave the sink out of '
        "log.sinks"
    )


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            {"a": "x"},
            "metric 'a': expected a real number, a Histogram or a Text, got str; convert it where "
            "the metric is made",
        ),
        ({"global_step": 1}, "'global_step' is the axis of every metric; rename the metric"),
    ],
)
def test_a_metric_that_cannot_be_taken_is_one_sentence(
    run: Describe, metrics: dict[str, object], message: str
) -> None:
    sink = WandbSink()
    sink.open(run())
    with pytest.raises(DataError) as caught:
        sink.write(1, metrics)
    assert str(caught.value) == f"sink wandb: {message}"
    sink.close()
    with pytest.raises(DataError, match=r"^sink wandb: it is not open; call open first$"):
        sink.write(1, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "live"}, 'mode: expected "offline" or "online", got \'live\''),
        ({"project": ""}, "project: expected a name that is not empty, got ''"),
        ({"project": None}, "project: expected a name that is not empty, got None"),
        ({"entity": 3}, "entity: expected a name that is not empty, got 3"),
        ({"group": " "}, "group: expected a name that is not empty, got ' '"),
        ({"tags": "a"}, "tags: expected a list of texts, got 'a'"),
        ({"tags": [1]}, "tags: expected a list of texts, got [1]"),
        ({"tags": 1}, "tags: expected a list of texts, got 1"),
    ],
)
def test_a_bad_option_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WandbSink(**options)
    assert str(caught.value) == f"sink wandb: {message}"


# ------------------------------------------------------------------------------ reading back


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run-a.wandb"
    path.write_bytes(b"text")
    with pytest.raises(DataError) as caught:
        list(offline.history(path))
    assert str(caught.value) == (
        f"{path}: expected a file of an offline W&B run (run-<id>.wandb), got none"
    )


def test_damage_is_found_and_a_cut_end_left_out(run: Describe, tmp_path: Path) -> None:
    session(run(), range(1, 4))
    (path,) = offline.files(tmp_path)
    whole = path.read_bytes()
    for length in range(7, len(whole), 97):
        path.write_bytes(whole[:length])
        steps = [line["global_step"] for line in offline.history(path)]
        assert steps == [1, 2, 3][: len(steps)]
    damaged = bytearray(whole)
    damaged[40] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"the record at byte 7 is damaged; copy the file again$"):
        list(offline.history(path))
