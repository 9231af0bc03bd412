"""The runs of the golden bits, at the level of this process: prints what came of them as JSON.

``python tests/golden_bits/runs.py`` with ``TISSLM_ISA`` set is what ``make_golden.py`` and the
test start for each level. Text and tokens are computed by a formula, so that no file and no
generator of random numbers is behind them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.config import RunConfig
from tisslm.datasets import PackedDataset, TokenDataset, TokenDocuments
from tisslm.workflows.build.trainer import build_trainer

HERE = Path(__file__).parent

#: A checkpoint of the tiny run below after ``SAVED`` steps, written by an earlier version.
OLD_CHECKPOINT = HERE / "checkpoint-5"
SAVED = 5

#: Settings of a run with everything on, by the name of the run; ``plain`` is one with little.
RUNS: dict[str, dict[str, Any]] = {
    "plain": {"batch_size": 2},
    **{
        precision: {
            "precision": precision,
            "batch_size": 1,
            "gradient_accumulation_steps": 2,
            "activation_checkpointing": "every=2",
        }
        for precision in ("fp32", "bf16", "fp16")
    },
}

RUNS["fp16"]["loss_scale_init"] = 2.0**24  # which the first gradients overflow

#: Metrics that differ from run to run, or from machine to machine.
OF_THE_MACHINE = (
    "memory/", "system/", "eval/runtime", "eval/samples_per_second", "train/tokens_per_second",
    "train/step_time_ms", "train/data_time_ms", "train/tflops", "train/mfu",
)  # fmt: skip


def tokens(count: int, vocab: int) -> np.ndarray:
    """Return ids that repeat themselves often enough to be learned, by a linear congruence."""
    found, state = [], 1
    for i in range(count):
        state = (1103515245 * state + 12345) % 2**31
        found.append((i * i // 7 + (state >> 16) % 5) % vocab)
    return np.array(found, dtype=np.uint16)


def digest(*arrays: np.ndarray) -> str:
    """Return the SHA-256 of arrays one after another."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def outcome(trainer: Trainer) -> dict[str, Any]:
    """Return what a run came to."""
    return {
        "parameters": digest(*(p.data for p in trainer.model.parameters)),
        "losses": digest(np.array(list(trainer.loss_history))),
        "steps": trainer.current_step,
        "skipped": trainer.skipped_steps,
    }


def char_tiny(name: str, folder: Path) -> dict[str, Any]:
    """Train ``char-tiny`` for 30 steps, with dropout."""
    shape = TransformerConfig.preset("char-tiny", vocab_size=61, dropout=0.1)
    ids = tokens(6000, 61)
    dataset: Any = TokenDataset(ids, shape.seq_len, vocab_size=61)
    if name != "plain":
        documents = TokenDocuments(ids, np.arange(0, 6001, 25), vocab_size=61)
        dataset = PackedDataset(documents, shape.seq_len)
    config = TrainingConfig(max_steps=30, save_every=0, output_dir=str(folder), **RUNS[name])
    model = Transformer(shape, seed=1)
    first = digest(*(p.data for p in model.parameters))
    trainer = Trainer(model, dataset=dataset, config=config, sinks=())
    trainer.train()
    return {"first": first, **outcome(trainer)}


def tiny_run(folder: Path, **settings: Any) -> Trainer:
    """Compose the run of the checkpoint: a model of a few thousand parameters."""
    shape = TransformerConfig(
        n_layer=1, n_head=2, n_embd=16, seq_len=16, vocab_size=17, dropout=0.1
    )
    dataset = TokenDataset(tokens(700, 17), 16, vocab_size=17)
    config = TrainingConfig(
        max_steps=2 * SAVED, batch_size=3, learning_rate=1e-2, output_dir=str(folder), **settings
    )
    return Trainer(Transformer(shape, seed=1), dataset=dataset, config=config, sinks=())


def resumed(folder: Path) -> dict[str, Any]:
    """Go on from the checkpoint that was written before."""
    with warnings.catch_warnings():  # it was written by another version, at another level
        warnings.filterwarnings("ignore", message="the run goes on under other conditions")
        trainer = tiny_run(folder, resume=str(OLD_CHECKPOINT))
    trainer.train()
    return outcome(trainer)


def metrics_of_the_default_run(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl`` of the default run on a text of our own, but times."""
    text = "".join(chr(32 + int(i)) for i in tokens(24_000, 90))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    own = [
        f"data.path={folder / 'text.txt'}",
        f"training.output_dir={folder / 'run'}",
        "training.max_steps=6",
        "training.logging_steps=1",
        "training.validation_frequency=3",
        "training.batch_size=2",
        'log.sinks=["jsonl"]',
    ]
    build_trainer(RunConfig.load(None, own, env={})).train()
    lines = (folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith(OF_THE_MACHINE)}
        for line in lines
    ]


def all_runs() -> dict[str, Any]:
    """Make every run, at the level of this process."""
    found: dict[str, Any] = {"engine": ops.engine()}
    with tempfile.TemporaryDirectory() as base:
        folders = (Path(base) / str(i) for i in range(100))
        found |= {name: char_tiny(name, next(folders)) for name in RUNS}
        found["resumed"] = resumed(next(folders))
        folder = next(folders)
        folder.mkdir()
        found["metrics"] = metrics_of_the_default_run(folder)
    return found


if __name__ == "__main__":
    json.dump(all_runs(), sys.stdout)
