"""One training with every sink: what each tool's own reader returns is what metrics.jsonl holds.

The run is interrupted between two checkpoints and goes on, so steps are made twice.
"""

from __future__ import annotations

import html
import importlib
import json
import math
import re
import tomllib
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.contracts import Histogram, Monitor, Sink, Text

PLUGINS = Path(__file__).parents[3] / "plugins"
TRACKERS = ("tensorboard", "mlflow", "wandb", "prometheus")
SINKS = ("jsonl", "csv", "tensorboard", "mlflow", "wandb", ("prometheus", {"port": 0}))


class Interruption(BaseException):
    """Ends a run wherever it is, as a power cut does."""


class Everything(Monitor):
    """Metrics of every kind, and numbers that are hard to keep."""

    wants = frozenset({"weights"})

    def __init__(self) -> None:
        self._looks: dict[str, Histogram] = {}

    def observe(self, site: str, array: Any) -> None:
        self._looks[f"weights/{site}"] = Histogram.of(array, bins=9)

    def metrics(self) -> dict[str, object]:
        histograms = list(self._looks.values())
        return {
            **self._looks,
            "weight_norm/blocks.0.mlp": math.sqrt(histograms[0].squares),
            "odd/nan": math.nan,
            "odd/inf": math.inf,
            "odd/minus_inf": -math.inf,
            "odd/small": np.float32(1e-7),
            "sample/1": Text(f"<b>größe</b>\n  {histograms[0].total!r}"),
        }


class Keep(Sink):
    """What was written, of every kind, and what a scrape has shown right after it."""

    accepts = frozenset({float, Histogram, Text})

    def __init__(self, stop_at: int = 0) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.scrapes: list[str] = []
        self.stop_at, self.address = stop_at, ""

    def open(self, run: Any) -> None:
        """Nothing: the address is known once the exporter before it is open."""
        (target,) = json.loads((run.directory / "prometheus.json").read_text())
        self.address = target["targets"][0]

    def write(self, step: int, metrics: Any) -> None:
        self.rows.append((step, dict(metrics)))
        # not urlopen, which keeps the proxy of its first call for the rest of the process
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{self.address}/metrics", timeout=60) as answer:
            self.scrapes.append(answer.read().decode())
        if step == self.stop_at and "train/loss" in metrics:
            raise Interruption


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the four packages installed plugins, by the entry points of their project files."""
    for name in TRACKERS:
        project = tomllib.loads((PLUGINS / f"tisslm-{name}/pyproject.toml").read_text())["project"]
        info = tmp_path / "site" / f"tisslm_{name}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        fields = f"Metadata-Version: 2.1\nName: tisslm-{name}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(fields)
        points = "".join(f"{k} = {v}\n" for k, v in project["entry-points"]["tisslm"].items())
        (info / "entry_points.txt").write_text(f"[tisslm]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and none of the settings of whoever runs the tests."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "WANDB_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


def trainer(directory: Path, **parts: Any) -> Trainer:
    tokens = np.random.default_rng(7).integers(0, 17, 900).astype(np.uint16)
    shape = TransformerConfig(n_layer=1, n_head=2, n_embd=16, seq_len=16, vocab_size=17)
    config = TrainingConfig(
        output_dir=str(directory),
        batch_size=3,
        max_steps=8,
        learning_rate=1e-2,
        save_every=3,
        validation_frequency=2,
        monitor_steps=2,
        resume="auto" if directory.exists() else "",
    )
    return Trainer(
        Transformer(shape, seed=1),
        dataset=TokenDataset(tokens[:700], 16, vocab_size=17),
        val_dataset=TokenDataset(tokens[700:], 16, vocab_size=17),
        config=config,
        **parts,
    )


# ------------------------------------------------------------------------------ readers

Found = dict[tuple[int, str], Any]


def of_jsonl(directory: Path) -> Found:
    """The numbers of the file: what the others are compared with."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return {
        (line["step"], name): float(value)
        for line in lines
        for name, value in line.items()
        if name != "step" and not isinstance(value, dict)
    }


def of_tensorboard(directory: Path) -> tuple[Found, Found, Found]:
    from tensorboard.backend.event_processing import event_accumulator as legacy
    from tensorboard.backend.event_processing import plugin_event_accumulator as current
    from tensorboard.util import tensor_util

    everything = dict.fromkeys(("scalars", "text"), 0)
    reader = current.EventAccumulator(str(directory), tensor_size_guidance=everything).Reload()
    numbers: Found = {}
    texts: Found = {}
    for name, about in reader.AllSummaryMetadata().items():
        kind = about.plugin_data.plugin_name
        place = {"scalars": numbers, "text": texts}.get(kind, {})
        steps = [event.step for event in reader.Tensors(name)]
        assert len(set(steps)) == len(steps), name  # those that were made again are forgotten
        for event in reader.Tensors(name):
            place[event.step, name] = tensor_util.make_ndarray(event.tensor_proto).reshape(-1)[0]
    del texts[0, "config"]
    older = legacy.EventAccumulator(str(directory), size_guidance={"histograms": 0}).Reload()
    histograms = {
        (event.step, name): event.histogram_value
        for name in older.Tags()["histograms"]
        for event in older.Histograms(name)
    }
    return numbers, histograms, {key: text.decode() for key, text in texts.items()}


def of_mlflow(directory: Path) -> tuple[Found, Found, Found]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(directory / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("tisslm")
    (run,) = client.search_runs([experiment.experiment_id])
    numbers = {
        (metric.step, name): metric.value  # of two of one step, the later
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    }
    root = Path(unquote(run.info.artifact_uri.removeprefix("file://")))
    texts = {
        (int(path.stem.removeprefix("step-")), str(path.parent.relative_to(root))): path.read_text()
        for path in root.rglob("step-*.txt")
    }
    histograms: Found = {}
    for path in root.glob("histograms/*.json"):
        record = json.loads(path.read_text())
        step = record.pop("step")
        histograms |= {(step, name): value for name, value in record.items()}
    return numbers, histograms, texts


def of_wandb(directory: Path) -> tuple[Found, Found, Found]:
    from tisslm_wandb import offline

    found: tuple[Found, Found, Found] = ({}, {}, {})
    for path in offline.files(directory):
        for line in offline.history(path):
            step = line.pop("global_step")
            for name, value in line.items():
                if name.startswith("_"):
                    continue
                if not isinstance(value, dict):
                    found[0][step, name] = float(value)
                elif value["_type"] == "histogram":
                    found[1][step, name] = value
                else:
                    page = (path.parent / "files" / value["path"]).read_text()
                    body = re.sub(r"^<pre [^>]*>|</pre>$", "", page)
                    found[2][step, name] = html.unescape(body)
    return found


def of_scrape(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def numbers(found: Found) -> Found:
    return {key: float(v) for key, v in found.items() if not isinstance(v, Histogram | Text)}


def same(one: Any, other: Any) -> bool:
    """Compare numbers to the last bit, NaN with NaN."""
    return np.array_equal(one, other, equal_nan=True)


def check_numbers(found: Found, expected: Found, digits: type = float) -> None:
    assert found.keys() == expected.keys()
    wrong = {key: (found[key], v) for key, v in expected.items() if not same(found[key], digits(v))}
    assert wrong == {}


# ------------------------------------------------------------------------------ the test


@pytest.mark.usefixtures("installed")
def test_every_tool_returns_what_metrics_jsonl_holds(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    first, second = Keep(stop_at=5), Keep()
    # a metric that depends on the time, and that steps have not when they are made again
    monkeypatch.setattr("tisslm.tracking.processor.SHORTEST", 0.0)
    with pytest.raises(Interruption):
        trainer(directory, sinks=(*SINKS, first), monitors=[Everything()]).train()
    monkeypatch.setattr("tisslm.tracking.processor.SHORTEST", math.inf)
    resumed = trainer(directory, sinks=(*SINKS, second), monitors=[Everything()])
    assert resumed.current_step == 3
    resumed.train()

    expected = of_jsonl(directory)
    assert {step for step, _ in expected} == set(range(1, 9))
    before, since = (
        {(step, name): v for step, row in keep.rows for name, v in row.items()}
        for keep in (first, second)
    )
    kept = {key: v for key, v in before.items() if key[0] <= 3} | since
    assert numbers(kept).keys() == expected.keys()
    histograms = {key: value for key, value in kept.items() if isinstance(value, Histogram)}
    texts = {key: value.text for key, value in kept.items() if isinstance(value, Text)}
    assert len(histograms) > 10
    assert sorted(step for step, _ in texts) == [2, 4, 6, 8]

    check_tensorboard(directory, expected, histograms, texts)
    lasting = numbers(before) | expected  # these two tools cannot delete
    assert lasting.keys() - expected.keys() == {(step, "system/cpu_percent") for step in (4, 5)}
    check_mlflow(directory, lasting, histograms, texts)
    check_wandb(directory, lasting, histograms, texts)
    for keep in (first, second):
        check_prometheus(keep)

    plain = trainer(tmp_path / "plain", sinks=())
    plain.train()
    assert np.array_equal(plain.model.parameters.data, resumed.model.parameters.data)
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert not (directory / "prometheus.json").exists()


def check_tensorboard(directory: Path, expected: Found, histograms: Found, texts: Found) -> None:
    numbers, bins, notes = of_tensorboard(directory)
    check_numbers(numbers, expected, np.float32)
    assert notes == texts
    assert bins.keys() == histograms.keys()
    for key, value in histograms.items():
        found = bins[key]
        assert [found.min, *found.bucket_limit] == value.edges.tolist()
        assert found.bucket == value.counts.tolist()
        assert (found.sum, found.sum_squares) == (value.total, value.squares)


def check_mlflow(directory: Path, expected: Found, histograms: Found, texts: Found) -> None:
    numbers, bins, notes = of_mlflow(directory)
    check_numbers(numbers, expected)
    assert notes == texts
    assert bins == {
        key: {
            "edges": value.edges.tolist(),
            "counts": value.counts.tolist(),
            "total": value.total,
            "squares": value.squares,
        }
        for key, value in histograms.items()
    }


def check_wandb(directory: Path, expected: Found, histograms: Found, texts: Found) -> None:
    numbers, bins, notes = of_wandb(directory)
    check_numbers(numbers, expected)
    assert notes == texts
    assert bins == {
        key: {"_type": "histogram", "values": v.counts.tolist(), "bins": v.edges.tolist()}
        for key, v in histograms.items()
    }


def check_prometheus(keep: Keep) -> None:
    """Compare each scrape with what was written just before it."""
    from tisslm_prometheus.families import series

    assert len(keep.scrapes) == len(keep.rows)
    for (step, row), text in zip(keep.rows, keep.scrapes, strict=True):
        found = of_scrape(text)
        run = next(dict(labels)["run"] for name, labels in found if name == "tisslm_max_steps")
        for name, value in row.items():
            if isinstance(value, Text):
                continue
            family, labels = series(name, statistic=not isinstance(value, Histogram))
            labelled = frozenset({("run", run), *labels})
            if isinstance(value, Histogram):
                assert found[f"{family}_count", labelled] == value.count
                assert same(found[f"{family}_sum", labelled], value.total)
            else:
                assert same(found[family, labelled], float(value)), name
            group = frozenset({("run", run), ("group", name.split("/")[0])})
            assert found["tisslm_step", group] == step
