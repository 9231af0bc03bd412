"""A run of an encoder: trained, evaluated, and used, by commands and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import tisslm
from tisslm.workflows.load_model import load_run_config

if TYPE_CHECKING:
    from conftest import Cli

SETTINGS = (
    "data.name=examples",
    "data.path=pairs.jsonl",
    "data.valid_examples=8",
    'data.query_prompt="q: "',
    "data.max_text_tokens=12",
    "tokenizer.name=byte",
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.seq_len=16",
    "model.pooling=mean",
    "loss.name=contrastive",
    "training.output_dir=run",
    "training.batch_size=8",
    "training.max_steps=12",
    "training.validation_frequency=4",
    "training.save_every=4",
    "training.keep_best=1",
    "training.best_metric=eval/recall_at_5",
    "scheduler.warmup_steps=0",
)


@pytest.fixture
def encoder(cli: Cli, folder: Path) -> Path:
    """Train an encoder in ``run/`` and return its path."""
    words = [f"{a}{b}" for a in "abcdef" for b in "uvwxyz"]
    records = [{"anchor": word, "positive": f"is {word[::-1]}"} for word in words]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "pairs.jsonl").write_text(lines, encoding="utf-8")
    done = cli("train", *(x for setting in SETTINGS for x in ("--set", setting)))
    assert (done.code, done.err) == (0, "")
    assert "eval recall@1" in done.out
    assert "vectors of it: tisslm embed run" in done.out
    return folder / "run"


def test_a_run_is_evaluated_and_used(cli: Cli, encoder: Path) -> None:
    lines = [json.loads(line) for line in (encoder / "metrics.jsonl").read_text().splitlines()]
    assert not any("train/perplexity" in line for line in lines)
    seen = [line for line in lines if "eval/recall_at_10" in line]
    assert [line["step"] for line in seen] == [4, 8, 12]
    assert {"eval/loss", "eval/mrr_at_10", "eval/ndcg_at_10", "eval/accuracy_at_1"} <= {*seen[0]}
    assert load_run_config(encoder).training.best_metric == "eval/recall_at_5"

    done = cli("eval", "run", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["examples"] == 8
    assert found["loss"] == pytest.approx(seen[-1]["eval/loss"], rel=1e-6)
    assert found["recall_at_5"] == seen[-1]["eval/recall_at_5"]
    done = cli("eval", "run", "--data", "pairs.jsonl")
    assert "pairs.jsonl: loss" in done.out
    assert "36 examples" in done.out

    (encoder.parent / "texts.txt").write_text("au\nis ua\n" * 40, encoding="utf-8")
    done = cli("embed", "run", "-i", "texts.txt", "-o", "x.npy", "--query")
    assert done.code == 0, done.err
    rows = np.load("x.npy")
    model = tisslm.load_encoder("run")
    assert model.prompts == {"query": "q: ", "document": ""}
    alone = model.encode_query(["au", "is ua"], batch_size=1)
    assert rows == pytest.approx(np.tile(alone, (40, 1)), abs=1e-6)
    assert not np.allclose(alone, model.encode(["au", "is ua"]))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert model.encode("a" * 20).shape == (16,)
    assert model.n_cut == 1


@pytest.mark.usefixtures("encoder")
def test_an_encoder_of_others_is_evaluated_on_a_file(cli: Cli) -> None:
    assert cli("export", "run", "--output", "published").code == 0
    of_run = json.loads(cli("eval", "run", "--data", "pairs.jsonl", "--json").out)
    done = cli("eval", "published", "--data", "pairs.jsonl", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert "loss" not in found
    for key in ("examples", "recall_at_1", "mrr_at_10"):
        assert found[key] == pytest.approx(of_run[key], rel=1e-6), key
    done = cli("eval", "published")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: published: no run has made it; give a file of examples with --data\n"
    )


@pytest.mark.usefixtures("encoder")
def test_an_encoder_of_others_is_evaluated_on_scores_of_any_scale(cli: Cli) -> None:
    assert cli("export", "run", "--output", "published").code == 0
    found = []
    for scale in (1, 5, -50):
        texts = (("au", "is", 0.9), ("is ua", "au", 0.3), ("ua", "sa", 0.5), ("si", "ua", 0.1))
        lines = [
            json.dumps({"sentence1": one, "sentence2": two, "score": scale * score}) + "\n"
            for one, two, score in texts
        ]
        Path("scores.jsonl").write_text("".join(lines), encoding="utf-8")
        done = cli("eval", "published", "--data", "scores.jsonl", "--seq-len", "10", "--json")
        assert done.code == 0, done.err
        found.append(json.loads(done.out)["pearson"])
    assert found == pytest.approx([found[0], found[0], -found[0]], rel=1e-5)


def test_an_encoder_is_loaded_for_passes_without_a_backward(encoder: Path) -> None:
    model = tisslm.load_encoder(encoder).model
    buffers = set(model.plan(2, 16))
    assert "layers.0.stream" in buffers
    assert not any(name.startswith("layers.1.") for name in buffers)  # of the block's second layer


def test_an_encoder_writes_no_text(cli: Cli, encoder: Path) -> None:
    done = cli("generate", str(encoder), "--prompt", "a")
    assert done.code == 3
    assert "expected a language model, got one that makes vectors of texts" in done.err


def test_resuming_an_encoder_is_exact(cli: Cli, encoder: Path) -> None:
    whole = tisslm.load_encoder("run").encode(["au"])
    half = f"training.resume={encoder / 'checkpoints' / 'checkpoint-8'}"
    settings = (*SETTINGS, "training.output_dir=again", half)
    done = cli("train", *(x for setting in settings for x in ("--set", setting)))
    assert done.code == 0, done.err
    assert tisslm.load_encoder("again").encode(["au"]).tobytes() == whole.tobytes()
