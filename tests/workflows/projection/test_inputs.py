"""Networks and times of a node, from files and from the command line."""

from __future__ import annotations

import json

import pytest

from tisslm.errors import ConfigError
from tisslm.workflows.projection.inputs import (
    Network,
    NodeTimes,
    measure_adding,
    parse_latency,
    read_network,
    read_times,
)


def exchanges(**seconds):
    rows = [
        {"call": "exchange", "bytes": int(n[1:]), "microseconds": 1e6 * s}
        for n, s in seconds.items()
    ]
    return [{"call": "barrier", "bytes": 1, "microseconds": 1.0}, *rows]


def test_a_network_is_a_line_through_its_smallest_and_largest_exchange(tmp_path):
    file = tmp_path / "network.json"
    # 3 ranks: two messages of 1 ms each, and 100 MB/s
    found = exchanges(b10=2e-3 + 2e-7, b1000000=2e-3 + 0.02, b1000=5.0)
    file.write_text(json.dumps({"hosts": ["a", "b", "c"], "results": found}))
    network = read_network(file)
    assert network.bandwidth == pytest.approx(1e8)
    assert network.latency == pytest.approx(1e-3)
    assert network.name == "measured by 3 ranks"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"hosts": ["a"], "results": exchanges(b8=1e-3, b1000=2e-3)},
        {"hosts": ["a", "b"], "results": exchanges(b8=1e-3)},
        {"hosts": ["a", "b"], "results": exchanges(b8=2e-3, b1000=1e-3)},
        {"hosts": ["a", "b"], "results": [{"call": "exchange"}]},
        {"hosts": 2, "results": 3},
    ],
)
def test_another_file_is_no_network(tmp_path, document):
    file = tmp_path / "network.json"
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"--net .*network.json.*expected times of exchanges"):
        read_network(file)


def test_times_are_read_from_what_a_projection_prints(tmp_path):
    file = tmp_path / "node.json"
    rates = {"pass_seconds": 2.0, "block_seconds": 0.1, "update_seconds": 0.5}
    file.write_text(json.dumps({"rates": {**rates, "added_per_second": 1e9, "source": "x"}}))
    assert read_times(file) == NodeTimes(2.0, 0.1, 0.5, 1e9, source=f"from {file}")
    for wrong in ({}, {"rates": rates}, {"rates": {**rates, "added_per_second": 0}}, {"rates": 3}):
        file.write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match=r"--rates .*expected a table rates"):
            read_times(file)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_no_json_is_refused(tmp_path, text):
    file = tmp_path / "node.json"
    file.write_text(text)
    for read in (read_times, read_network):
        with pytest.raises(ConfigError, match="no file of figures"):
            read(file)


def test_a_speed_scales_passes_and_nothing_else():
    times = NodeTimes(2.0, 0.1, 0.5, 1e9).at_speed(100.0, 50e9)
    assert (times.pass_seconds, times.block_seconds) == (0.5, pytest.approx(0.025))
    assert (times.update_seconds, times.added_per_second) == (0.5, 1e9)
    for gflops, flops in ((0.0, 1.0), (-1.0, 1.0), (1.0, 0.0)):
        with pytest.raises(ConfigError, match="--gflops"):
            times.at_speed(gflops, flops)


def test_latencies():
    assert parse_latency("25us") == pytest.approx(25e-6)
    assert parse_latency(" 0.1ms") == pytest.approx(1e-4)
    assert parse_latency("2s") == 2.0
    for wrong in ("25", "us", "-1us", "1e-3s", "nan us", "1.2.3us"):
        with pytest.raises(ConfigError, match="--latency: expected a time such as 25us"):
            parse_latency(wrong)


def test_an_ethernet_carries_what_tcp_leaves_of_it():
    assert Network.ethernet(10.0, 1e-5).bandwidth == pytest.approx(1.177e9, rel=1e-3)


def test_a_core_adds_at_some_speed():
    assert 1e7 < measure_adding() < 1e12
