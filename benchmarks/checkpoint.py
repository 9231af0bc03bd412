"""What a checkpoint costs the training loop, beside a memory copy and ``dd``: ``--help``.

What does not live here: how a checkpoint is written (``tisslm.checkpoint``,
``tisslm.checkpoint.saver``).
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from command import JsonFile, Rounds, SizeName, Threads
from machine import describe, say, stop, usable_cores, warn_if_busy, write_json
from numpy.typing import NDArray
from sizes import Size, parse_size

from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.checkpoint import list_checkpoints
from tisslm.checkpoint.saver import BackgroundSaver
from tisslm.memory.arenas import Arena

DD_BLOCK = 16 * 2**20
SEED = 1

Folder = Annotated[
    Path | None,
    typer.Option(help="Disk to write to; left out, that of temporary files."),
]


@dataclass
class Seconds:
    """Durations of every round."""

    copy: list[float]
    pause: list[float]
    background: list[float]
    direct: list[float]
    dd: list[float]


def make_trainer(size: Size, folder: Path) -> Trainer:
    """Build a model with AdamW, and make one update, so that no array is zero."""
    shape = TransformerConfig(**size.model(bias=True))
    config = TrainingConfig(
        batch_size=size.batch, output_dir=str(folder), keep_checkpoints=1, max_steps=1
    )
    trainer = Trainer(Transformer(shape, seed=SEED), "adamw", config=config, sinks=())
    ids = np.random.default_rng(SEED).integers(0, size.vocab_size, (size.batch, size.time + 1))
    trainer.train_step(ids[:, :-1].astype(np.int32), ids[:, 1:].astype(np.int32))
    trainer.run.make()
    return trainer


def verify(trainer: Trainer, saver: BackgroundSaver) -> None:
    """Compare both ways' files, byte for byte."""
    manifests = []
    for save in (saver.save, saver.write_now):
        save(1, trainer.session.take())
        saver.wait()
        (path,) = list_checkpoints(trainer.run.checkpoints)
        manifests.append((path / "manifest.json").read_bytes())
    if manifests[0] != manifests[1]:
        stop("the two ways of saving wrote different files", 1)


def plain_copy(target: NDArray[Any], source: NDArray[Any], threads: int) -> None:
    """Copy a block with so many threads, each a part of its own."""
    step = -(-len(source) // threads)
    workers = [
        threading.Thread(
            target=np.copyto, args=(target[i : i + step], source[i : i + step]), daemon=True
        )
        for i in range(0, len(source), step)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def dd(path: Path, nbytes: int) -> None:
    """Write as many bytes as dd does, synced at the end."""
    count = max(1, round(nbytes / DD_BLOCK))
    block = min(DD_BLOCK, nbytes)
    command = ["dd", "if=/dev/zero", f"of={path}", f"bs={block}", f"count={count}", "conv=fsync"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path.unlink(missing_ok=True)
    if done.returncode:
        stop(f"dd failed: {done.stderr.strip()}", 1)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    start = perf_counter()
    action()
    return perf_counter() - start


def measure(trainer: Trainer, saver: BackgroundSaver, threads: int, rounds: int) -> Seconds:
    """Take turns: a memory copy, a background save, a direct save, dd."""
    nbytes, scratch = saver.nbytes, trainer.run.path / "dd.bin"
    source, target = (Arena(nbytes).take((nbytes // 4,), np.float32) for _ in range(2))
    ops.fill(source, 1.0)
    found = Seconds([], [], [], [], [])
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        found.copy.append(timed(lambda: plain_copy(target, source, threads)))
        start = perf_counter()
        saver.save(2, trainer.session.take())
        found.pause.append(perf_counter() - start)
        saver.wait()
        found.background.append(perf_counter() - start)
        found.dd.append(timed(lambda: dd(scratch, nbytes)))
        found.direct.append(timed(lambda: saver.write_now(2, trainer.session.take())))
    return found


def summarize(found: Seconds, nbytes: int) -> dict[str, Any]:
    """Return medians, and the two ratios that count."""
    medians = {name: statistics.median(values) for name, values in vars(found).items()}
    return {
        "bytes": nbytes,
        "seconds": vars(found),
        "copy_ms": 1e3 * medians["copy"],
        "pause_ms": 1e3 * medians["pause"],
        "pause_over_copy": medians["pause"] / medians["copy"],
        "direct_mb_per_second": nbytes / medians["direct"] / 1e6,
        "background_mb_per_second": nbytes / medians["background"] / 1e6,
        "dd_mb_per_second": nbytes / medians["dd"] / 1e6,
        "direct_over_dd": medians["dd"] / medians["direct"],
    }


def table(row: dict[str, Any]) -> str:
    """Lay the results out for reading."""
    return "\n".join(
        [
            f"{'one memory copy':28}{row['copy_ms']:10.1f} ms",
            f"{'pause of a background save':28}{row['pause_ms']:10.1f} ms"
            f"{row['pause_over_copy']:8.2f} copies",
            f"{'dd, conv=fsync':28}{row['dd_mb_per_second']:10.0f} MB/s",
            f"{'direct save':28}{row['direct_mb_per_second']:10.0f} MB/s"
            f"{row['direct_over_dd']:8.2f} of dd",
            f"{'background save, whole':28}{row['background_mb_per_second']:10.0f} MB/s",
        ]
    )


def run(
    size: SizeName = "char-tiny",
    rounds: Rounds = 5,
    threads: Threads = 0,
    folder: Folder = None,
    json_file: JsonFile = None,
) -> None:
    """Time saves of a model with AdamW's state, after comparing what both ways write."""
    threads = threads or usable_cores()
    try:
        shape = parse_size(size)
    except ValueError as error:
        stop(str(error), 2)
    if shutil.which("dd") is None:
        stop("dd is not installed; it is in the package coreutils", 1)
    load = warn_if_busy(threads)
    ops.set_threads(threads)
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=folder) as place:
        trainer = make_trainer(shape, Path(place))
        saver = BackgroundSaver(trainer.saver.write, trainer.session.take())
        verify(trainer, saver)
        row = summarize(measure(trainer, saver, threads, rounds), saver.nbytes)
    print(f"{size}: {shape}, {saver.nbytes / 1e6:.0f} MB, {threads} threads")
    print(table(row))
    document = {"size": size, "threads": threads, "load": load, "machine": describe(), **row}
    write_json(json_file, document)


if __name__ == "__main__":
    typer.run(run)
