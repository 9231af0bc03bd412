"""The benchmark's peer: nanoGPT's training step in PyTorch, eager or compiled.

Runs in an interpreter that has torch and NumPy; knows nothing of TissLM but the names in the
file of weights.

What does not live here: the model (``torch_gpt``), the order of the turns.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from protocol import UnavailableError, memory, resident_bytes, serve

try:
    import numpy as np
    import torch
    from torch_gpt import GPT, make_adamw, train_update

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

IMPORT_RSS_BYTES = resident_bytes("VmRSS")

#: Autocast's type for the forward pass and the loss, as nanoGPT sets it. fp16 is left out: it
#: needs loss scaling, which nanoGPT has for GPUs only, so there is no recipe to hold it to.
AUTOCAST = {"fp32": None, "bf16": "bfloat16"}


class TorchSide:
    """One model, its optimizer and one batch; see the handlers' names in ``main``."""

    def prepare(self, job: dict[str, Any], folder: str) -> dict[str, Any]:
        """Build the model with the weights and the batch that our side has left."""
        if MISSING:
            raise UnavailableError(f"its interpreter cannot import what it needs: {MISSING}")
        if job["compile"] and not shutil.which(os.environ.get("CXX", "g++")):
            raise UnavailableError("torch.compile needs a C++ compiler, and there is none")
        if job["precision"] not in AUTOCAST:
            raise UnavailableError(
                f"this recipe has no {job['precision']} on the CPU (no loss scaling)"
            )
        autocast = AUTOCAST[job["precision"]]
        self.autocast = None if autocast is None else getattr(torch, autocast)
        torch.set_num_threads(job["threads"])
        self.plain = self._load(job, Path(folder))
        self.model: Any = torch.compile(self.plain) if job["compile"] else self.plain
        options = job["adamw"]
        self.optimizer, self.fused = self._optimizer(options)
        self.max_grad_norm = job["max_grad_norm"]
        with np.load(Path(folder) / "batch.npz") as batch:
            self.x = torch.from_numpy(batch["x"].astype(np.int64))
            self.y = torch.from_numpy(batch["y"].astype(np.int64))
        return {
            "parameters": sum(p.numel() for p in self.plain.parameters()),
            "about": {
                "torch": torch.__version__,
                "numpy": np.__version__,
                "fused_adamw": self.fused,
                "autocast": autocast or "",
                "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            },
        }

    def _load(self, job: dict[str, Any], folder: Path) -> GPT:
        with torch.device("meta"):  # skips an initialization that is overwritten anyway
            model = GPT(**job["model"])
        model.to_empty(device="cpu")
        with np.load(folder / "weights.npz") as weights, torch.no_grad():
            parameters = dict(model.named_parameters())
            if set(parameters) != set(weights.files):
                odd = sorted(set(parameters) ^ set(weights.files))
                raise ValueError(f"the two models do not have the same parameters: {odd[:5]}")
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(weights[name]))
        return model

    def _optimizer(self, options: dict[str, Any]) -> tuple[torch.optim.AdamW, bool]:
        try:
            return make_adamw(self.plain, **options, fused=True), True
        except (RuntimeError, ValueError):  # before PyTorch 2.4 there is none for the CPU
            return make_adamw(self.plain, **options), False

    def updates(self, n: int) -> dict[str, Any]:
        """Make n updates; seconds are for all of them together."""
        start = time.perf_counter()
        losses = [
            train_update(
                self.model, self.optimizer, self.x, self.y, self.max_grad_norm, self.autocast
            )
            for _ in range(n)
        ]
        return {"seconds": time.perf_counter() - start, "losses": losses}

    def memory(self) -> dict[str, Any]:
        """Report the memory after the imports, and the peak so far."""
        return memory(IMPORT_RSS_BYTES)


def main() -> None:
    """Serve until the benchmark is done."""
    side = TorchSide()
    serve({"prepare": side.prepare, "updates": side.updates, "memory": side.memory})


if __name__ == "__main__":
    main()
