"""A rank of a run: trains tiny models, and prints on rank 0 what has to be the same everywhere.

    run_program.py FOLDER MODE [WHAT]

Modes: ``whole`` trains in each precision, with one thread and two; ``begin`` trains in float32 and
leaves its last checkpoint out; ``resume`` goes on from there; ``optimizers`` tries each by name;
``hindered`` has WHAT happen to rank 1 while weights are on their way back: ``raise``, or a signal's
name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, ops

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 32, "seq_len": 16, "vocab_size": 23}
STEPS = 30
#: 37 rows in updates of 16, which are eight micro-batches: the last of an epoch has three.
WINDOWS, ROWS = 37, 16
OPTIMIZERS = ("sgd", "adam", "rmsprop", "lion")


def data(windows: int, seed: int) -> TokenDataset:
    """Return tokens at random."""
    size = windows * SHAPE["seq_len"] + 1
    tokens = np.random.default_rng(seed).integers(0, SHAPE["vocab_size"], size, dtype=np.uint16)
    return TokenDataset(tokens, SHAPE["seq_len"], vocab_size=SHAPE["vocab_size"])


def hinder(trainer: Trainer, what: str) -> None:
    """Have something happen between two buckets of the weights of update 12."""
    if trainer.communicator.rank != 1:
        return
    returning, parameters = trainer.session.parts.reduction._returning, trainer.model.parameters
    channel = returning._channel
    share = channel.share

    def hindered(*arrays: object) -> None:
        if parameters.updates == 12 and returning._n_here == 1:
            if what == "raise":
                raise OSError("the cable was cut")
            os.kill(os.getpid(), getattr(signal, what))
        share(*arrays)

    channel.share = hindered


def train(folder: Path, optimizer: str = "adamw", before=None, **settings: object) -> list[object]:
    """Train a model on all ranks; return hashes, losses and the last evaluation."""
    config = {
        "max_steps": STEPS,
        "batch_size": 2,
        "global_batch_size": ROWS,
        "reduction_parts": 8,
        "learning_rate": 1e-2,
        "validation_frequency": 10,
        "save_every": 10,
        "keep_checkpoints": 0,
        "rank_check_steps": 5,
        "output_dir": str(folder),
    }
    trainer = Trainer(
        Transformer(TransformerConfig(**SHAPE, dropout=0.1), seed=5),
        optimizer,
        dataset=data(WINDOWS, 1),
        val_dataset=data(9, 2),
        sinks=["jsonl"],
        communicator=("mpi", {"stall_timeout": 5.0 if before else 300.0}),
        config=TrainingConfig(**{**config, **settings}),
    )
    if before:
        before(trainer)
    trainer.train()
    if trainer.stopped:
        return [trainer.stopped, trainer.current_step]
    saved = folder / "checkpoints" / f"checkpoint-{STEPS}" / "optimizer.safetensors"
    state = saved.read_bytes() if trainer.communicator.rank == 0 else b""
    return [
        hashlib.sha256(trainer.model.parameters.data.tobytes()).hexdigest(),
        hashlib.sha256(state).hexdigest(),
        list(trainer.loss_history),
        trainer.state.evaluation,
        trainer.communicator.rank,
    ]


def main(folder: Path, mode: str, what: str = "") -> None:
    """Do what the mode says."""
    warnings.simplefilter("ignore")
    found = {}
    if mode == "whole":
        for precision in ("fp32", "bf16", "fp16"):
            for threads in (1, 2):
                name = f"{precision}-{threads}"
                found[name] = train(folder / name, precision=precision, threads=threads)
    elif mode == "optimizers":
        found = {name: train(folder / name, name, threads=1) for name in OPTIMIZERS}
    elif mode == "hindered":
        found = {"fp32-1": train(folder, before=partial(hinder, what=what), threads=1)}
    elif mode == "resume":
        found["fp32-1"] = train(folder, resume="auto", reduction_parts=None, threads=1)
    else:
        train(folder, threads=1)
        if ranks_first():
            shutil.rmtree(folder / "checkpoints" / f"checkpoint-{STEPS}")
    if ranks_first():
        print(json.dumps({"engine": ops.engine(), "found": found}), flush=True)


def ranks_first() -> bool:
    """Tell whether this is the first rank."""
    from mpi4py import MPI

    return MPI.COMM_WORLD.rank == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
