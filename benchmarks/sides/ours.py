"""The benchmark's own side: the Trainer's step, as a user calls it.

It makes the weights and the batch that every side works on, and measures the machine's peak.

What does not live here: the peers, the order of the turns.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
from bounds import peaks
from numpy.typing import NDArray
from protocol import UnavailableError, memory, resident_bytes, serve
from stamps import Stamper, barrier_seconds

import tisslm
from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.contracts import Dataset, Rows
from tisslm.errors import ConfigError

SEED = 1337
IMPORT_RSS_BYTES = resident_bytes("VmRSS")


class OneBatch(Dataset):
    """A data set of exactly the benchmark's batch."""

    def __init__(self, x_BT: NDArray[np.int32], y_BT: NDArray[np.int32], vocab_size: int) -> None:
        self.x_BT, self.y_BT = x_BT, y_BT
        self.seq_len = x_BT.shape[1]
        self.vocab_size = vocab_size

    def __len__(self) -> int:
        """Return B."""
        return len(self.x_BT)

    def window(self, i: int) -> Rows:
        """Return row i of inputs and targets."""
        return Rows(self.x_BT[i], self.y_BT[i])

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """Return the rows as they are."""
        return range(len(self))


class OurSide:
    """One model, its Trainer and one batch; see the handlers' names in ``main``."""

    def prepare(self, job: dict[str, Any], folder: str) -> dict[str, Any]:
        """Build the model, and leave its weights and a batch in the folder for the peers."""
        try:
            return self._prepare(job, Path(folder))
        except ConfigError as error:  # a precision that this version or processor has not
            raise UnavailableError(str(error)) from error

    def _prepare(self, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        config = self._config(job)
        model = Transformer(TransformerConfig(**job["model"]), seed=SEED, dtype="float32")
        weights, batch = folder / "weights.npz", folder / "batch.npz"
        rng = np.random.default_rng(SEED)
        vocab_size, shape = job["model"]["vocab_size"], (job["batch"], job["model"]["seq_len"])
        self.x = rng.integers(0, vocab_size, shape, dtype=np.int32)
        self.y = rng.integers(0, vocab_size, shape, dtype=np.int32)
        if not batch.exists():  # the first of our sides makes them for everyone
            np.savez(weights, **{p.name: p.data for p in model.parameters})
            np.savez(batch, x=self.x, y=self.y)
        self.threads: int = job["threads"]
        self.trainer = self._trainer(model, job, config)
        self.stamper = Stamper(self.threads, lambda: self.updates(1))
        return {
            "parameters": model.parameters.count,
            "about": {
                "tisslm": tisslm.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "engine": ops.engine(),
                "precision": job["precision"],
                "activation_checkpointing": job["activation_checkpointing"],
            },
        }

    def _config(self, job: dict[str, Any]) -> TrainingConfig:
        """Make the configuration; what is not the default is named, so that it can be refused."""
        chosen = {}
        if job["precision"] != "fp32":
            chosen["precision"] = job["precision"]
        if job["activation_checkpointing"] != "none":
            chosen["activation_checkpointing"] = job["activation_checkpointing"]
        return TrainingConfig(
            batch_size=job["batch"],
            learning_rate=job["adamw"]["lr"],
            max_grad_norm=job["max_grad_norm"],
            max_steps=10**9,
            threads=job["threads"],
            **chosen,
        )

    def _trainer(self, model: Transformer, job: dict[str, Any], config: TrainingConfig) -> Trainer:
        options = {name: value for name, value in job["adamw"].items() if name != "lr"}
        options["beta1"], options["beta2"] = options.pop("betas")
        return Trainer(
            model,
            optimizer=("adamw", options),
            loss_fn="cross_entropy",
            scheduler="constant",
            dataset=OneBatch(self.x, self.y, model.vocab_size),
            config=config,
            sinks=(),
        )

    def updates(self, n: int) -> dict[str, Any]:
        """Make n updates; seconds are for all of them together."""
        start = perf_counter()
        losses = [float(self.trainer.train_step(self.x, self.y)) for _ in range(n)]
        return {"seconds": perf_counter() - start, "losses": losses}

    def stamped(self, n: int) -> dict[str, Any]:
        """Make n updates, and report what each thread computes in them, the least of all."""
        self.stamper.stamp(n)
        return self.stamper.reduced().as_json()

    def barrier(self) -> dict[str, Any]:
        """Measure what a loop without work costs on the threads of the training."""
        return {"seconds": barrier_seconds(self.threads)}

    def peak(self, seconds: float) -> dict[str, Any]:
        """Measure the machine's peaks, on as many threads as the training."""
        return {"gflops": peaks(self.threads, seconds)}

    def memory(self) -> dict[str, Any]:
        """Report the memory after the imports, and the peak so far."""
        return memory(IMPORT_RSS_BYTES)


def main() -> None:
    """Serve until the benchmark is done."""
    side = OurSide()
    serve(
        {
            "prepare": side.prepare,
            "updates": side.updates,
            "stamped": side.stamped,
            "barrier": side.barrier,
            "peak": side.peak,
            "memory": side.memory,
        }
    )


if __name__ == "__main__":
    main()
