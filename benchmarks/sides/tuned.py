"""The benchmark's own side in fine-tuning: the Trainer's step over a published model.

It leaves the adapters that every side begins with, as PEFT reads them.

What does not live here: the peer, the order of the turns.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
from bounds import peaks
from ours import OneBatch
from protocol import memory, resident_bytes, serve

from tisslm import AdapterConfig, Trainer, TrainingConfig, Transformer, Tuning

IMPORT_RSS_BYTES = resident_bytes("VmRSS")

__all__ = ["TunedSide"]


class TunedSide:
    """One model, its Trainer and one batch; see the handlers' names in ``serve``."""

    def prepare(self, job: dict[str, Any], precision: str, adapters: bool) -> dict[str, Any]:
        """Open the model, and save what is trained of it in the folder of the job.

        With ``adapters``, these are trained beside a model of bf16; without, all of the model is.
        """
        tuning = None
        if adapters:
            tuning = Tuning(frozen_precision="bf16", adapter=AdapterConfig(**job["adapter"]))
        time = job["time"]
        model = Transformer.from_pretrained(job["model"], seq_len=time, tuning=tuning, seed=1)
        rng = np.random.default_rng(job["seed"])
        self.x, self.y = rng.integers(0, model.vocab_size, (2, job["batch"], time), np.int32)
        self.threads = job["threads"]
        config = TrainingConfig(
            batch_size=job["batch"],
            learning_rate=job["adamw"]["lr"],
            max_grad_norm=job["max_grad_norm"],
            max_steps=10**9,
            threads=self.threads,
            precision=precision,
            validation_frequency=0,
            output_dir=job["folder"],
        )
        options = {name: value for name, value in job["adamw"].items() if name != "lr"}
        options["beta1"], options["beta2"] = options.pop("betas")
        self.trainer = Trainer(
            model,
            optimizer=("adamw", options),
            scheduler="constant",
            dataset=OneBatch(self.x, self.y, model.vocab_size),
            config=config,
            sinks=(),
        )
        saved = str(self.trainer.save_checkpoint(0, 0)) if adapters else None
        return {"flops_per_token": model.flops_per_token(time), "adapters": saved}

    def updates(self, n: int) -> dict[str, Any]:
        """Make n updates; seconds are for all of them together."""
        start = perf_counter()
        losses = [float(self.trainer.train_step(self.x, self.y)) for _ in range(n)]
        return {"seconds": perf_counter() - start, "losses": losses}

    def peak(self, seconds: float) -> dict[str, Any]:
        """Measure the machine's peaks, on as many threads as the training."""
        return {"gflops": peaks(self.threads, seconds)}

    def memory(self) -> dict[str, Any]:
        """Report the memory after the imports, and the peak so far."""
        return memory(IMPORT_RSS_BYTES)

    def serve(self) -> None:
        """Answer until the benchmark ends this process."""
        handlers = {"prepare": self.prepare, "updates": self.updates, "peak": self.peak}
        serve({**handlers, "memory": self.memory})


if __name__ == "__main__":
    TunedSide().serve()
