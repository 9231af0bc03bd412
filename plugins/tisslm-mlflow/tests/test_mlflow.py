"""MLflow's own client returns what was written to a store of files; resumed runs, ends, errors."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tisslm_mlflow.names import key, settings
from tisslm_mlflow.sink import MlflowSink

from tisslm.contracts import Histogram, RunInfo, Text
from tisslm.errors import ConfigError, DataError
from tisslm.testing import check_sink

Describe = Callable[..., RunInfo]


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out, and see whether anything is written home."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(home)
    yield
    assert list(home.iterdir()) == []


class Store:
    """What is in the store of a run directory."""

    def __init__(self, directory: Path) -> None:
        from mlflow import MlflowClient

        self.directory = directory
        self.client = MlflowClient(tracking_uri=(directory / "mlruns").as_uri())

    def runs(self) -> list[Any]:
        numbers = [found.experiment_id for found in self.client.search_experiments()]
        return self.client.search_runs(numbers, order_by=["attributes.start_time"])

    def metric(self, name: str) -> list[tuple[int, float]]:
        (run,) = self.runs()
        history = self.client.get_metric_history(run.info.run_id, name)
        return [(metric.step, metric.value) for metric in history]

    def artifact(self, path: str) -> str:
        (run,) = self.runs()
        root = Path(run.info.artifact_uri.removeprefix("file://"))
        return (root / path).read_text(encoding="utf-8")


def session(run: RunInfo, steps: range, offset: float = 0.0) -> None:
    sink = MlflowSink()
    sink.open(run)
    for step in steps:
        sink.write(step, {"train/loss": step + offset})
    sink.close()


def fail(error: BaseException, sink: MlflowSink) -> None:
    """Close a sink while an error is on its way, as a run does."""
    with contextlib.suppress(type(error)):
        try:
            raise error
        finally:
            sink.close()


def test_it_keeps_the_contract_of_sinks() -> None:
    assert check_sink(MlflowSink).n_assertions > 10


def test_numbers_come_back_to_the_last_bit(run: Describe, tmp_path: Path) -> None:
    values = (0.1, 2**53 - 1, np.float32(0.1), 1e-300, math.inf, -math.inf, np.int64(7))
    sink = MlflowSink()
    sink.open(run())
    for step, value in enumerate(values, 1):
        sink.write(step, {"train/loss": value})
    sink.write(8, {"train/loss": math.nan})
    sink.close()
    found = Store(tmp_path).metric("train/loss")
    assert found[:-1] == [(step, float(value)) for step, value in enumerate(values, 1)]
    assert found[-1][0] == 8
    assert math.isnan(found[-1][1])


def test_settings_are_parameters_and_tags_are_kept(run: Describe, tmp_path: Path) -> None:
    sink = MlflowSink(experiment="größe", tags={"team": "a"})
    sink.open(run())
    sink.close()
    store = Store(tmp_path)
    (found,) = store.runs()
    assert found.data.params == {
        "training.seed": "1",
        "training.learning_rate": "0.001",
        "log.sinks": '["mlflow"]',
    }
    assert found.data.tags["team"] == "a"
    assert found.data.tags["tisslm.directory"] == str(tmp_path)
    assert found.data.tags["tisslm.parameters"] == "1234"
    assert found.info.run_name == "größe"
    assert found.info.status == "FINISHED"
    assert store.client.get_experiment(found.info.experiment_id).name == "größe"


def test_histograms_and_texts_are_artifacts_by_step(run: Describe, tmp_path: Path) -> None:
    histogram = Histogram.of(np.linspace(-1.0, 2.0, 100), bins=4)
    sink = MlflowSink()
    sink.open(run())
    sink.write(5, {"sample/1": Text("a\n東京"), "weights/w": histogram, "train/loss": 1.0})
    sink.write(5, {"gradients/w": histogram})
    sink.close()
    store = Store(tmp_path)
    assert store.artifact("sample/1/step-00000005.txt") == "a\n東京"
    record = json.loads(store.artifact("histograms/step-00000005.json"))
    assert list(record) == ["step", "weights/w", "gradients/w"]
    assert record["step"] == 5
    assert record["weights/w"] == {
        "edges": histogram.edges.tolist(),
        "counts": histogram.counts.tolist(),
        "total": histogram.total,
        "squares": histogram.squares,
    }


def test_more_metrics_than_a_request_takes(run: Describe, tmp_path: Path) -> None:
    sink = MlflowSink()
    sink.open(run())
    sink.write(1, {f"weight_norm/{i}": float(i) for i in range(1001)})
    sink.close()
    assert Store(tmp_path).metric("weight_norm/1000") == [(1, 1000.0)]


@pytest.mark.parametrize("name", ["train/loss", "größe/a b:c.d-e", "weight_norm/blocks.0.w"])
def test_a_name_that_mlflow_takes_is_left_alone(name: str) -> None:
    assert key(name) == name


def test_another_name_becomes_one_that_mlflow_takes_and_stays_its_own(
    run: Describe, tmp_path: Path
) -> None:
    names = ['a,"b', "a?_b", "../a", "/a", "a//b", "a/./b", "x" * 300, "x" * 301, "a\tb", "a\nb"]
    assert key('a,"b') == "a__b_9787b6aa"
    assert len({key(name) for name in names}) == len(names)
    sink = MlflowSink()
    sink.open(run())
    sink.write(1, {name: float(i) for i, name in enumerate(names)})
    sink.close()
    store = Store(tmp_path)
    assert [store.metric(key(name)) for name in names] == [[(1, i)] for i in range(len(names))]


def test_long_settings_are_cut_and_empty_tables_are_kept() -> None:
    found = settings({"a": {"b": "x" * 501, "c": {}}, "d": None, "e": True})
    assert found == {"a.b": "x" * 497 + "...", "a.c": "{}", "d": "null", "e": "true"}


# ------------------------------------------------------------------------------ sessions


def test_a_resumed_run_goes_on_with_its_mlflow_run(run: Describe, tmp_path: Path) -> None:
    session(run(), range(1, 7))
    session(run(resumed_step=4), range(5, 7), offset=0.5)
    found = Store(tmp_path).metric("train/loss")
    assert found == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (5, 5.5), (6, 6.5)]
    assert dict(found)[5] == 5.5  # of two, the later one counts


def test_a_new_run_has_a_run_of_its_own(run: Describe, tmp_path: Path) -> None:
    session(run(), range(1, 3))
    session(run(), range(1, 3))
    assert len(Store(tmp_path).runs()) == 2


def test_a_run_that_is_resumed_elsewhere_has_a_run_of_its_own(
    run: Describe, tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    session(run(tmp_path / "one"), range(1, 3))
    session(run(tmp_path / "two", resumed_step=2), range(3, 5))
    assert Store(tmp_path / "one").metric("train/loss") == [(1, 1), (2, 2)]
    assert Store(tmp_path / "two").metric("train/loss") == [(3, 3), (4, 4)]


def test_a_store_of_the_environment_is_used(
    run: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "shared" / "mlruns").as_uri())
    session(run(), range(1, 3))
    assert Store(tmp_path / "shared").metric("train/loss") == [(1, 1), (2, 2)]
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_that_ends_by_an_error_has_failed(
    run: Describe, tmp_path: Path, error: BaseException, status: str
) -> None:
    sink = MlflowSink()
    sink.open(run())
    fail(error, sink)
    assert Store(tmp_path).runs()[0].info.status == status


def test_a_run_within_the_handling_of_an_error_has_not_failed(
    run: Describe, tmp_path: Path
) -> None:
    try:
        raise ValueError("an earlier attempt")
    except ValueError:
        session(run(), range(1, 2))
    assert Store(tmp_path).runs()[0].info.status == "FINISHED"


# ------------------------------------------------------------------------------ errors


def test_a_server_that_is_not_there_is_one_sentence(run: Describe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        MlflowSink(tracking_uri="http://127.0.0.1:9").open(run())
    said = str(caught.value)
    assert said.startswith("sink mlflow: no run at http://127.0.0.1:9 (MlflowException: API reque")
    assert said.endswith(
        f"); check log.mlflow.tracking_uri, delete {tmp_path / 'mlflow.json'} if the run that it "
        "names is gone, or leave the sink out of log.sinks"
    )
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_deleted_is_one_sentence(run: Describe, tmp_path: Path) -> None:
    session(run(), range(1, 3))
    store = Store(tmp_path)
    run_id = store.runs()[0].info.run_id
    store.client.delete_run(run_id)
    with pytest.raises(ConfigError) as caught:
        MlflowSink().open(run(resumed_step=2))
    assert f"(ConfigError: the run {run_id} was deleted; restore it)" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"run_id": 3}', b"\xff", b"[" * 9999])
def test_a_damaged_file_is_one_sentence(run: Describe, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mlflow.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        MlflowSink().open(run(resumed_step=2))
    said = str(caught.value)
    assert said.startswith(f"{path}: the sink mlflow cannot go on with it (")
    assert said.endswith("); delete it to begin a new run there")


def test_a_store_that_goes_away_is_one_sentence(run: Describe, tmp_path: Path) -> None:
    sink = MlflowSink()
    sink.open(run())
    shutil.rmtree(tmp_path / "mlruns")
    with pytest.raises(DataError) as caught:
        sink.write(3, {"train/loss": 1.0})
    said = str(caught.value)
    assert said.startswith("sink mlflow: step 3 could not be written (Exception: ")
    assert said.endswith("); see to the server, or to the room on its disk")
    with pytest.raises(DataError, match=r"^sink mlflow: run [0-9a-f]+ could not be ended \("):
        sink.close()
    sink.close()


def test_a_metric_of_another_kind_is_one_sentence(run: Describe) -> None:
    sink = MlflowSink()
    sink.open(run())
    with pytest.raises(DataError) as caught:
        sink.write(1, {"a": "x"})
    assert str(caught.value) == (
        "sink mlflow: metric 'a': expected a real number, a Histogram or a Text, got str; convert "
        "it where the metric is made"
    )
    sink.close()
    with pytest.raises(DataError, match=r"^sink mlflow: it is not open; call open first$"):
        sink.write(1, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tracking_uri": 5},
            "tracking_uri: expected the address of a server such as 'http://127.0.0.1:5000', got 5",
        ),
        ({"experiment": " "}, "experiment: expected a name that is not empty, got ' '"),
        ({"tags": ["a"]}, "tags: expected a table of texts, got ['a']"),
        ({"tags": {"a": 1}}, "tags: expected a table of texts, got {'a': 1}"),
    ],
)
def test_a_bad_option_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MlflowSink(**options)
    assert str(caught.value) == f"sink mlflow: {message}"
