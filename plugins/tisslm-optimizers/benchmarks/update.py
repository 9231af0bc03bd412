"""Updates of each optimizer, in turns: ``update.py [layers] [channels] [threads]``."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from tisslm_optimizers.adafactor import Adafactor
from tisslm_optimizers.adam8bit import Adam8bit
from tisslm_optimizers.lamb import Lamb
from tisslm_optimizers.muon import Muon
from tisslm_optimizers.schedule_free import ScheduleFreeAdamW

from tisslm import Transformer, TransformerConfig, ops
from tisslm.optim.optimizers import AdamW

ROUNDS = 7
BUILDS = {
    "adamw": AdamW,
    "adam8bit": Adam8bit,
    "schedule_free_adamw": ScheduleFreeAdamW,
    "lamb": Lamb,
    "adafactor": Adafactor,
    "muon": Muon,
}


def main(layers: int = 6, channels: int = 384, threads: int = 2) -> None:
    """Print the median of each, its share of AdamW's in each turn, and the bytes of its state."""
    if ops.REFERENCE_ONLY:
        sys.exit("update.py: TISSLM_OPS=reference leaves no kernel to be measured; unset it")
    shape = {"n_layer": layers, "n_head": channels // 64, "n_embd": channels}
    config = TransformerConfig(**shape, seq_len=256, vocab_size=65)
    ops.set_threads(threads)
    rng, updates = np.random.default_rng(0), {}
    for name, build in BUILDS.items():
        parameters = Transformer(config).parameters
        parameters.grad[...] = rng.standard_normal(parameters.grad.size, dtype=np.float32)
        updates[name] = build(parameters, 1e-4)
    turns = [{name: seconds(o.step) for name, o in updates.items()} for _ in range(ROUNDS)][1:]
    count = updates["adamw"].parameters.count
    print(f"{count} parameters, {threads} threads")
    for name, optimizer in updates.items():
        median = statistics.median(turn[name] for turn in turns) * 1e3
        ratio = statistics.median(turn[name] / turn["adamw"] for turn in turns)
        state = sum(array.nbytes for array in optimizer.state().values()) / count
        print(f"{name:20} {median:8.1f} ms {ratio:6.2f} of adamw {state:6.2f} bytes a parameter")


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
