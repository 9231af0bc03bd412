"""Scrapes over HTTP, read by Prometheus' own parser: names, labels, steps, and the server's end."""

from __future__ import annotations

import json
import math
import os
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tisslm_prometheus.families import quantiles, series
from tisslm_prometheus.sink import PrometheusSink

from tisslm.contracts import Histogram, RunInfo
from tisslm.errors import ConfigError, DataError
from tisslm.testing import check_sink

Describe = Callable[..., RunInfo]


@contextmanager
def opened(run: RunInfo, **options: Any) -> Iterator[PrometheusSink]:
    sink = PrometheusSink(**{"port": 0, **options})
    sink.open(run)
    try:
        yield sink
    finally:
        sink.close()


def scrape(sink: PrometheusSink) -> dict[str, Any]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever is set
    with direct.open(f"http://{sink.address}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(family: Any) -> dict[str, float]:
    """Return the samples of a family by their labels, without that of the run."""
    found = {}
    for sample in family.samples:
        labels = [v for k, v in sample.labels.items() if k != "run"]
        found["/".join([sample.name.removeprefix(family.name), *labels]).strip("/")] = sample.value
    return found


def test_it_keeps_the_contract_of_sinks() -> None:
    assert check_sink(PrometheusSink).n_assertions > 10


def test_a_scrape_has_the_last_value_of_every_metric(run: Describe) -> None:
    with opened(run()) as sink:
        sink.write(1, {"train/loss": 4.5, "train/epoch": np.float32(0.1)})
        sink.write(2, {"eval/loss": 4.25})
        sink.write(3, {"train/loss": 0.1, "memory/rss_gib": 2})
        found = scrape(sink)
    assert values(found["tisslm_train_loss"]) == {"": 0.1}
    assert values(found["tisslm_train_epoch"]) == {"": float(np.float32(0.1))}
    assert values(found["tisslm_eval_loss"]) == {"": 4.25}
    assert values(found["tisslm_memory_rss_gib"]) == {"": 2.0}
    assert values(found["tisslm_step"]) == {"train": 3, "eval": 2, "memory": 3}
    assert values(found["tisslm_max_steps"]) == {"": 9}
    assert values(found["tisslm_parameters"]) == {"": 1234}
    assert found["tisslm_train_loss"].type == "gauge"
    assert found["tisslm_train_loss"].documentation == "train/loss"
    assert found["tisslm_train_loss"].samples[0].labels == {"run": "größe"}
    assert found["tisslm_run_info"].samples[0].labels["run"] == "größe"


@pytest.mark.parametrize(
    ("name", "family", "labels"),
    [
        ("train/grad_norm", "tisslm_train_grad_norm", ()),
        (
            "grad_norm/blocks.0.mlp.up.weight",
            "tisslm_grad_norm",
            (("parameter", "blocks.0.mlp.up.weight"),),
        ),
        ("weight/w/p01", "tisslm_weight_p01", (("parameter", "w"),)),
        (
            "activation/blocks.0.mlp/mean",
            "tisslm_activation_mean",
            (("place", "blocks.0.mlp"),),
        ),
        ("attention/blocks.1.attention/entropy_min", "tisslm_attention_entropy_min", None),
        ("größe/验证", "tisslm_gr__e___", ()),
        ("grad_norm", "tisslm_grad_norm", ()),
    ],
)
def test_parameters_and_places_are_labels(
    name: str, family: str, labels: tuple[tuple[str, str], ...] | None
) -> None:
    found = series(name)
    assert found.family == family
    assert labels is None or found.labels == labels


def test_names_that_would_be_one_stay_two(run: Describe) -> None:
    with opened(run()) as sink:
        sink.write(1, {"a.b": 1.0, "a_b": 2.0, "step": 3.0, "parameters": 4.0})
        found = scrape(sink)
    assert values(found["tisslm_a_b"]) == {"": 1.0}
    assert values(found["tisslm_a_b_2"]) == {"": 2.0}
    assert found["tisslm_a_b_2"].documentation == "a_b"
    assert values(found["tisslm_step_2"]) == {"": 3.0}
    assert values(found["tisslm_parameters_2"]) == {"": 4.0}


def test_what_is_not_finite_is_scraped_as_it_is(run: Describe) -> None:
    with opened(run()) as sink:
        sink.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
        found = scrape(sink)
    assert math.isnan(values(found["tisslm_a"])[""])
    assert values(found["tisslm_b"]) == {"": math.inf}
    assert values(found["tisslm_c"]) == {"": -math.inf}


def test_a_histogram_is_a_summary_by_parameter(run: Describe) -> None:
    histogram = Histogram.of(np.linspace(0.0, 1.0, 1001), bins=100)
    with opened(run()) as sink:
        sink.write(7, {"weights/w": histogram, "weights/v": histogram, "weight/w/p50": 0.5})
        found = scrape(sink)
    family = found["tisslm_weights"]
    assert family.type == "summary"
    samples = {
        (s.name, s.labels["parameter"], s.labels.get("quantile")): s.value for s in family.samples
    }
    assert samples["tisslm_weights_count", "w", None] == 1001
    assert samples["tisslm_weights_sum", "v", None] == histogram.total
    assert samples["tisslm_weights", "w", "0.5"] == pytest.approx(0.5, abs=0.01)
    assert samples["tisslm_weights", "v", "0.99"] == pytest.approx(0.99, abs=0.01)
    assert len(samples) == 14
    assert values(found["tisslm_weight_p50"]) == {"w": 0.5}


def test_quantiles_lie_within_the_bins() -> None:
    histogram = Histogram(np.array([2, 0, 6]), np.array([0.0, 1.0, 2.0, 5.0]), 0.0, 0.0)
    assert quantiles(histogram) == pytest.approx(
        {0.01: 0.04, 0.25: 2.0, 0.5: 3.0, 0.75: 4.0, 0.99: 4.96}
    )
    assert quantiles(Histogram(np.zeros(2, np.int64), np.arange(3.0), 0.0, 0.0)) == {}


# ------------------------------------------------------------------------------ the server


def test_prometheus_finds_the_address_in_the_run_directory(run: Describe, tmp_path: Path) -> None:
    with opened(run()) as sink:
        record = json.loads((tmp_path / "prometheus.json").read_text())
        assert record == [{"targets": [sink.address], "labels": {"run": "größe"}}]
    assert list(tmp_path.iterdir()) == []


def test_the_port_is_free_after_the_end_also_with_a_client_that_waits(run: Describe) -> None:
    with opened(run()) as sink:
        host, port = sink.address.split(":")
        waiting = socket.create_connection((host, int(port)))
        waiting.sendall(b"GET /met")
        scrape(sink)
    waiting.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
    with opened(run(), port=int(port)) as again:
        assert again.address == f"{host}:{port}"
    assert again.address == ""


def test_two_runs_cannot_have_one_port(run: Describe) -> None:
    with opened(run()) as sink:
        port = int(sink.address.split(":")[1])
        with pytest.raises(ConfigError) as caught:
            PrometheusSink(port=port).open(run())
    assert str(caught.value) == (
        f"sink prometheus: nothing can listen at 127.0.0.1 port {port} (Address already in use); "
        "set log.prometheus.port to another, or to 0 for one that is free"
    )


def test_a_directory_that_cannot_be_written_leaves_no_server(run: Describe, tmp_path: Path) -> None:
    sink = PrometheusSink(port=0)
    with pytest.raises(ConfigError) as caught:
        sink.open(run(tmp_path / "missing"))
    assert str(caught.value) == (
        f"sink prometheus: {tmp_path / 'missing' / 'prometheus.json'} cannot be written (No such "
        "file or directory); choose another training.output_dir, or leave the sink out of log.sinks"
    )
    assert sink.address == ""


# ------------------------------------------------------------------------------ errors


def test_a_metric_of_another_kind_is_one_sentence(run: Describe) -> None:
    with opened(run()) as sink, pytest.raises(DataError) as caught:
        sink.write(1, {"a": "x"})
    assert str(caught.value) == (
        "sink prometheus: metric 'a': expected a real number or a Histogram, got str; give it to a "
        "sink that accepts that kind of value"
    )
    with pytest.raises(DataError, match=r"^sink prometheus: it is not open; call open first$"):
        sink.write(1, {})


def test_a_directory_whose_name_is_no_utf_8_is_scraped(run: Describe, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    with opened(run(folder)) as sink:
        sink.write(1, {"grad_norm/\udcff": 1.0, "\udcff": 2.0})
        found = scrape(sink)
    assert found["tisslm_run_info"].samples[0].labels["directory"].endswith("d\\udcff")


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_what_cannot_be_a_host_is_one_sentence(run: Describe, host: str) -> None:
    with pytest.raises(ConfigError, match=r"^sink prometheus: nothing can listen at a.* port 0 \("):
        PrometheusSink(host=host, port=0).open(run())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": "80"}, "port: expected an integer from 0 to 65535, got '80'"),
        ({"port": True}, "port: expected an integer from 0 to 65535, got True"),
        ({"port": 65536}, "port: expected an integer from 0 to 65535, got 65536"),
        ({"host": ""}, "host: expected an address such as '127.0.0.1', got ''"),
        ({"host": 4}, "host: expected an address such as '127.0.0.1', got 4"),
    ],
)
def test_a_bad_option_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PrometheusSink(**options)
    assert str(caught.value) == f"sink prometheus: {message}"
