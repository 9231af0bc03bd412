"""``tisslm project``: tables that say what they are, and the files that it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Cli

TINY = (
    "data.path=text.txt",
    "model.n_layer=2",
    "model.n_head=2",
    "model.n_embd=32",
    "model.seq_len=16",
    "training.batch_size=4",
    "training.max_steps=6",
)
FLAGS = [x for setting in TINY for x in ("--set", setting)]
ENCODER = [
    x
    for setting in (
        "data.name=examples",
        "data.path=pairs.jsonl",
        "loss.name=contrastive",
        "model.pooling=mean",
        *TINY[1:],
    )
    for x in ("--set", setting)
]
RATES = {
    "pass_seconds": 8.0,
    "block_seconds": 0.5,
    "update_seconds": 0.1,
    "added_per_second": 5e9,
}


@pytest.fixture
def rates(folder: Path) -> str:
    (folder / "node.json").write_text(json.dumps({"rates": RATES}))
    return "node.json"


def facts(cli: Cli, *more: str) -> dict[str, Any]:
    result = cli("project", *FLAGS, "--json", *more)
    assert (result.code, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_it_measures_a_node_and_lists_what_it_starts_from(cli: Cli) -> None:
    found = facts(cli, "--nodes", "6")
    assert "not a measurement" in found["what"]
    assert found["inputs"]["rows_per_node"] == 4
    assert found["rates"]["pass_seconds"] > 0 < found["rates"]["added_per_second"]
    assert "measured here on 1 threads" in found["rates"]["source"]
    assert list(found["projected"]) == ["1 Gbit/s", "10 Gbit/s", "100 Gbit/s"]
    assert [row["nodes"] for row in found["projected"]["1 Gbit/s"]] == [2, 3, 4, 6]


def test_an_encoder_is_refused_for_what_its_steps_take(cli: Cli, rates: str) -> None:
    pairs = [json.dumps({"anchor": f"a{i}", "positive": f"b{i}"}) for i in range(24)]
    Path("pairs.jsonl").write_text("\n".join(pairs))
    for more in ((), ("--rates", rates)):
        result = cli("project", *ENCODER, *more)
        assert (result.code, result.out) == (3, "")
        assert result.err.startswith(
            "error: project: expected a language model, whose rows all take as long, got one that "
            "makes vectors of texts, whose steps take as long as the texts of a run are; train it"
        )


def test_it_goes_by_the_times_that_are_given(cli: Cli, rates: str) -> None:
    found = facts(cli, "--rates", rates, "--gbit", "10", "--jitter", "0", "--nodes", "4")
    assert found["rates"]["source"] == "from node.json"
    assert found["alone"]["seconds"] == pytest.approx(8.1)
    (steps,) = found["projected"].values()
    assert steps[0]["seconds"] == pytest.approx(8.0, rel=0.02)
    assert steps[0]["efficiency"] == pytest.approx(8.1 / steps[0]["seconds"])


def test_a_measured_network_comes_first(cli: Cli, folder: Path, rates: str) -> None:
    row = {"call": "exchange"}
    results = [
        {**row, "bytes": 8, "microseconds": 30},
        {**row, "bytes": 10**6, "microseconds": 9e3},
    ]
    (folder / "net.json").write_text(json.dumps({"hosts": ["a", "b"], "results": results}))
    found = facts(cli, "--rates", rates, "--net", "net.json")
    assert next(iter(found["projected"])) == "measured by 2 ranks"
    assert found["networks"][0]["bandwidth"] == pytest.approx(1.115e8, rel=0.01)


def test_people_read_that_it_is_a_projection(cli: Cli, rates: str) -> None:
    result = cli("project", *FLAGS, "--rates", rates, "--gflops", "0.001", "--nodes", "2")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("projection by a model, not a measurement\n")
    for line in (
        "jitter (assumed)",
        "projected efficiency",
        "projected seconds of a step on 2 nodes",
        "passes at 0.001 GFLOP/s as given",
        "network                 100 Gbit/s: 11.77 GB/s each way, 25 us a message",
    ):
        assert line in result.out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--gbit", "0"), "--gbit: expected a number > 0"),
        (("--gbit", "1", "--net", "x"), "--gbit and --net: expected one of them"),
        (("--latency", "soon"), "--latency: expected a time such as 25us"),
        (("--net", "nowhere.json"), "nowhere.json"),
        (("--gflops", "0", "--rates", "node.json"), "--gflops: expected a number > 0"),
        (
            ("--set", "training.global_batch_size=8", "--rates", "node.json"),
            "each of 3 ranks, got 8",
        ),
    ],
)
def test_what_cannot_be_projected_is_said(
    cli: Cli, rates: str, flags: tuple[str, ...], words: str
) -> None:
    result = cli("project", *FLAGS, *flags)
    assert result.code == 3
    assert words in result.err
