"""Every benchmark runs end to end at a tiny size, without a peer, and refuses wrong options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tisslm import Transformer, TransformerConfig, ops
from tisslm.workflows.export import write_folder

FOLDER = Path(__file__).parents[2] / "benchmarks"
TINY = ("--size", "1,2,16,11,2,8")
ONCE = ("--rounds", "1", "--steps", "1")


def run(name: str, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *options],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def figures(tmp_path: Path, name: str, *options: str) -> dict[str, Any]:
    """Run a benchmark and return its document."""
    path = tmp_path / "figures.json"
    run(name, *TINY, *options, "--json", str(path))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_train_step(tmp_path):
    found = figures(tmp_path, "train_step", *ONCE, "--peers", "", "--threads", "1")
    (ours,) = found["results"]
    assert ours["who"] == "tisslm"
    assert ours["of_peak"] == pytest.approx(ours["gflops"] / found["peak_gflops"])
    assert 0 < ours["import_rss_bytes"] < ours["peak_rss_bytes"]
    rest = ours["peak_less_import_bytes"] - 16 * found["parameters"]
    assert ours["peak_above_parameters_bytes"] == rest


def test_a_peer_that_cannot_start_is_named(tmp_path):
    peer = ("--peers", "torch", "--peer-python", "/no/such/python")
    options = (*TINY, *ONCE, *peer, "--threads", "1")
    assert (
        "torch is left out: /no/such/python cannot be started" in run("train_step", *options).stderr
    )
    assert "peers left out: torch" in run("train_step", *options, "--require-peers", code=1).stderr


def test_a_peer_that_lacks_pytorch_is_named(tmp_path):
    (tmp_path / "torch.py").write_text('raise ImportError("none here")\n')
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="{tmp_path}:$PYTHONPATH" exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    peers = ("--peers", "torch,torch-compile", "--peer-python", str(python))
    told = run("train_step", *TINY, *ONCE, *peers, "--threads", "1").stderr
    for peer in ("torch", "torch-compile"):
        expected = f"{peer} is left out: its interpreter cannot import what it needs: none here"
        assert expected in told


@pytest.mark.parametrize("name", ["train_step", "threads", "caches", "ranks"])
@pytest.mark.parametrize("file", ["missing/figures.json", "."])
def test_a_file_that_cannot_be_written_is_told_before_measuring(tmp_path, name, file):
    done = run(name, "--json", str(tmp_path / file), code=2)
    assert f"{name}: --json: expected a file in a folder that exists" in done.stderr


@pytest.mark.parametrize("name", ["train_step", "attention", "memory"])
def test_more_threads_than_kernels_take_are_a_wrong_usage(name):
    assert "--threads" in run(name, "--threads", "65", code=2).stderr


def test_kernels(tmp_path):
    found = figures(tmp_path, "kernels", "--rounds", "1", "--threads", "1", "--kernel", "norm")
    kernels = {row["kernel"] for row in found["results"]}
    ours = {"layer_norm_forward", "layer_norm_apply", "layer_norm_backward", "squared_norm"}
    assert ours <= kernels
    assert all("norm" in name for name in kernels)
    assert all(row["rate"] > 0 and row["unit"] == "GB/s" for row in found["results"])
    assert found["left_out"] == {}


def test_threads(tmp_path):
    found = figures(tmp_path, "threads", *ONCE, "--threads", "1,2")
    assert [row["threads"] for row in found["results"]] == [1, 2]
    one, two = found["results"]
    assert one["speed_up"] == one["efficiency"] == 1
    assert two["speed_up"] == pytest.approx(2 * two["efficiency"])


@pytest.mark.skipif(
    not ops.watch_regions(None), reason="twins, or a build without OpenMP: no threads to watch"
)
def test_simulated_threads(tmp_path):
    options = ("--simulate", "3", "--rounds", "1", "--barrier", "5", "--bandwidth", "1000")
    found = figures(tmp_path, "threads", *options)
    assert [row["threads"] for row in found["results"]] == [1, 2, 3]
    assert found["simulated"] is True
    assert found["barrier_seconds_on_two"] == pytest.approx(5e-6)
    for row in found["results"]:
        assert sum(row["lost"].values()) == pytest.approx(1 - row["efficiency"])
        assert row["lost"]["barriers"] > 0 or row["threads"] == 1
    assert {"1", "2"} == set(found["measured_seconds"]) == set(found["off"])


def test_memory(tmp_path):
    found = figures(tmp_path, "memory", "--peers", "", "--threads", "1")
    (ours,) = found["results"]
    assert ours["ratio_of_peaks"] == ours["ratio_above_parameters"] == 1
    assert ours["peak_less_import_bytes"] > 16 * found["parameters"]


def test_checkpoint(tmp_path):
    found = figures(tmp_path, "checkpoint", "--rounds", "1", "--folder", str(tmp_path))
    assert found["pause_over_copy"] == pytest.approx(found["pause_ms"] / found["copy_ms"])
    speeds = found["direct_mb_per_second"] / found["dd_mb_per_second"]
    assert found["direct_over_dd"] == pytest.approx(speeds)
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_profile_step(tmp_path):
    found = figures(tmp_path, "profile_step", *ONCE, "--threads", "1")
    parts = found["parts"]
    assert set(parts) >= {"products", "attention", "norms", "optimizer", "loss", "embedding"}
    shares = sum(part["share"] for part in parts.values()) + found["rest"]["share"]
    assert shares == pytest.approx(1)
    assert parts["products"]["unit"] == "GFLOP/s"


def test_document_mask(tmp_path):
    found = figures(tmp_path, "document_mask", "--documents", "2,5", "--rounds", "2")
    assert found["documents"] > 2
    assert 0 < found["seen_share"] < 1
    assert set(found["times"]) == {"documents", "one document"}
    for times in found["times"].values():
        assert len(times["pass_s"]) == len(times["attention_s"]) == 2
        assert 0 < min(times["attention_s"]) < min(times["pass_s"])


def test_attention(tmp_path):
    path = tmp_path / "figures.json"
    tiny = ("--shape", "1,70,4,2,8", "--window", "9", "--threads", "2", "--rounds", "2")
    run("attention", *tiny, "--precision", "bf16", "--json", str(path))
    found = json.loads(path.read_text())
    assert len(found["whole_s"]) == len(found["window_s"]) == 2
    assert found["pairs"] == pytest.approx((70 * 9 - 36) / (70 * 71 / 2))
    assert len(found["backward_thread_ms"]) <= 2
    assert not found["of_peak"]
    run("attention", *tiny, "--threads", "1", "--json", str(path))
    shares = json.loads(path.read_text())["of_peak"]
    assert set(shares) == {"forward", "backward"}
    assert min(shares.values()) > 0
    wrong = run("attention", "--shape", "1,70,4,3,8", code=2).stderr
    assert "--shape: expected B,T,H,K,D with H a multiple of K" in wrong


def test_generation(tmp_path):
    path = tmp_path / "figures.json"
    options = ("--size", "1,2,16,11,1,32", "--tokens", "20", "--rounds", "2", "--threads", "2")
    done = run("generation", *options, "--json", str(path))
    assert "bf16 writes" in done.stdout
    found = json.loads(path.read_text())
    matrices = 12 * 16 * 16 + 11 * 16
    assert found["bytes"] == {"fp32": 4 * matrices, "bf16": 2 * matrices}
    assert all(len(rates) == 2 for rates in found["tokens_per_s"].values())
    assert set(found["tokens_per_s"]) == {"fp32", "bf16"}
    wrong = run("generation", "--size", "1,2,16,11,1,9", "--tokens", "20", code=2).stderr
    assert "--tokens: expected a text of at most 9 tokens" in wrong


def test_lora(tmp_path):
    shape = {"family": "llama", "n_layer": 2, "n_head": 2, "n_embd": 16, "seq_len": 8}
    write_folder(tmp_path / "model", Transformer(TransformerConfig(**shape, vocab_size=31)), None)
    path = tmp_path / "figures.json"
    options = ("--time", "8", "--rank", "2", *ONCE, "--threads", "1", "--json", str(path))
    done = run("lora", str(tmp_path / "model"), *options)
    assert "of the resident memory of tisslm, all trained" in done.stdout
    found = json.loads(path.read_text())
    assert set(found["ways"]) == {"tisslm, bf16", "tisslm, fp32", "tisslm, all trained, fp32"}
    assert sorted(len(way["tokens_per_s"]) for way in found["ways"].values()) == [0, 0, 1]
    assert all(0 < r["ratio"] < 2 for name, r in found["ratios"].items() if "memory" in name)


def test_freezing(tmp_path):
    found = figures(tmp_path, "freezing", "--size", "2,2,16,11,2,8", *ONCE, "--threads", "1")
    whole, upper, lower, deep, head = found["results"]
    assert whole["share"] == whole["counted"] == 1
    assert 1 > upper["counted"] == lower["counted"] > deep["counted"] > head["counted"] > 0
    assert whole["bytes"] > upper["bytes"] == lower["bytes"] > deep["bytes"] > head["bytes"]


def test_tokenizing(tmp_path):
    path = tmp_path / "figures.json"
    small = ("--mb", "0.05", "--vocab-size", "300", "--json", str(path))
    run("tokenizing", *small, "--rounds", "1")
    found = json.loads(path.read_text())
    assert found["bytes"] >= 50_000
    assert found["ratio"] == pytest.approx(
        found["mb_per_second"]["ours"] / found["mb_per_second"]["library"]
    )
    run("tokenizing", *small, "--memory")
    found = json.loads(path.read_text())
    assert found["documents"] == 1
    assert found["peak_rss_bytes"] >= found["before_rss_bytes"] > 0


def test_network(tmp_path):
    path = tmp_path / "figures.json"
    done = run("network", "--rounds", "2", "--bytes", "1,1000", "--json", str(path))
    assert "local: 1 ranks on 1 machines" in done.stdout
    found = json.loads(path.read_text())["results"]
    sizes = [("barrier", 1)]
    sizes += [(c, n) for c in ("all_gather", "share", "exchange", "broadcast") for n in (1, 1000)]
    assert [(row["call"], row["bytes"]) for row in found] == sizes
    assert all(row["microseconds"] > 0 and row["sent_gb_per_s"] == 0 for row in found)
    assert "--bytes: expected sizes from 1" in run("network", "--bytes", "0", code=2).stderr


@pytest.fixture
def encoder(tmp_path):
    """Return a file of examples, and the run of an encoder that has learned from them."""
    file, words = tmp_path / "pairs.jsonl", [f"{a}{b}" for a in "abcdef" for b in "uvwxyz"]
    pairs = [{"anchor": f"{word} {word}", "positive": f"is {word[::-1]}"} for word in words]
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    settings = {
        "data.name": "examples", "data.path": file, "data.valid_examples": 8,
        "tokenizer.name": "byte", "model.n_layer": 1, "model.n_head": 2, "model.n_embd": 16,
        "model.seq_len": 16, "model.pooling": "mean", "loss.name": "contrastive",
        "training.output_dir": tmp_path / "run", "training.batch_size": 8, "training.max_steps": 2,
        "scheduler.warmup_steps": 0,
    }  # fmt: skip
    options = [x for pair in settings.items() for x in ("--set", "{}={}".format(*pair))]
    command = [sys.executable, "-m", "tisslm", "train", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return file, tmp_path / "run"


def test_embeddings_and_retrieval(tmp_path, encoder):
    file, model = encoder
    (tmp_path / "texts.txt").write_text("is ua\nau\n" * 20)
    path = tmp_path / "figures.json"
    run("embeddings", str(model), str(tmp_path / "texts.txt"), "--rounds", "1", "--json", str(path))
    found = json.loads(path.read_text())
    assert (found["texts"], len(found["texts_per_s"]["tisslm"])) == (40, 1)
    options = ("--run", str(model), "--valid-examples", "8", "--json", str(path))
    assert "among 8 documents" in run("retrieval", str(file), *options).stdout
    found = json.loads(path.read_text())["results"]
    assert found["tf-idf"]["recall_at_1"] == 0  # they share no word
    assert found[str(model)]["recall_at_10"] == 1  # all of them are among ten
    (tmp_path / "texts.txt").write_text("")
    done = run("embeddings", str(model), str(tmp_path / "texts.txt"), code=2)
    assert "expected texts, one in a line" in done.stderr


def test_hosts_need_root_and_more_than_one():
    assert "network namespaces" in run("hosts", "--help").stdout
    run("hosts", "--hosts", "1", code=2)


@pytest.mark.parametrize(
    "name", ["train_step", "kernels", "threads", "memory", "profile_step", "document_mask"]
)
def test_a_wrong_size_is_a_wrong_usage(name):
    assert f"{name}: --size: expected one of char-tiny" in run(name, "--size", "x", code=2).stderr


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("train_step", ("--peers", "jax"), "--peers: expected different names of torch"),
        ("train_step", ("--peers", "transformers"), "torch-compile for a size of the family gpt2"),
        ("train_step", ("--plain",), "--plain: expected another precision"),
        ("memory", ("--activation-checkpointing", "half"), "expected none, full or every=N"),
        ("threads", ("--threads", "2,1"), "--threads: expected 1 and more counts"),
        ("threads", ("--simulate", "1,2"), "--simulate: expected counts from 2 to"),
        ("kernels", ("--kernel", "nothing"), "--kernel: expected part of a shape or of"),
        ("document_mask", ("--documents", "9,3"), "--documents: expected the least and the"),
    ],
)
def test_a_wrong_option_says_what_was_expected(name, options, sentence):
    assert sentence in run(name, *TINY, *options, code=2).stderr
