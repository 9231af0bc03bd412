"""The benchmark's peer for GPT-2: nanoGPT's training step in PyTorch, eager or compiled.

Runs in an interpreter that has torch and NumPy; knows nothing of TissLM but the names in the
file of weights. The step, but not the model, is also that of the other peers.

What does not live here: the model (``torch_gpt``), the order of the turns.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from protocol import UnavailableError, memory, resident_bytes, serve

try:
    import numpy as np
    import torch
    from torch import nn
    from torch_gpt import GPT, make_adamw, train_update

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

IMPORT_RSS_BYTES = resident_bytes("VmRSS")

#: Autocast's type for the forward pass and the loss, as nanoGPT sets it. fp16 is left out: it
#: needs loss scaling, which nanoGPT has for GPUs only, so there is no recipe to hold it to.
AUTOCAST = {"fp32": None, "bf16": "bfloat16"}


def load_gpt(keys: dict[str, Any], weights: Mapping[str, Any]) -> GPT:
    """Build nanoGPT's model; its parameters have our names."""
    with torch.device("meta"):  # skips an initialization that is overwritten anyway
        model = GPT(**keys)
    model.to_empty(device="cpu")
    parameters = dict(model.named_parameters())
    if set(parameters) != set(weights):
        odd = sorted(set(parameters) ^ set(weights))
        raise ValueError(f"the two models do not have the same parameters: {odd[:5]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(weights[name]))
    return model


class TorchSide:
    """One model, its optimizer and one batch; see the handlers' names in ``serve``.

    Parameters
    ----------
    load : callable or None
        Takes the model's keys and our weights by name, and returns a module whose call with
        tokens and targets is the mean loss. None if something is missing.
    missing : str
        What cannot be imported, empty if nothing.
    import_rss_bytes : int
        Resident memory after the imports.
    """

    def __init__(
        self, load: Callable[..., nn.Module] | None, missing: str, import_rss_bytes: int
    ) -> None:
        self.load, self.missing, self.import_rss_bytes = load, missing, import_rss_bytes

    def prepare(self, job: dict[str, Any], folder: str) -> dict[str, Any]:
        """Build the model with the weights and the batch that our side has left."""
        if self.load is None:
            raise UnavailableError(f"its interpreter cannot import what it needs: {self.missing}")
        if job["compile"] and not shutil.which(os.environ.get("CXX", "g++")):
            raise UnavailableError("torch.compile needs a C++ compiler, and there is none")
        if job["precision"] not in AUTOCAST:
            raise UnavailableError(
                f"this recipe has no {job['precision']} on the CPU (no loss scaling)"
            )
        autocast = AUTOCAST[job["precision"]]
        self.autocast = None if autocast is None else getattr(torch, autocast)
        torch.set_num_threads(job["threads"])
        with np.load(Path(folder) / "weights.npz") as weights:
            self.plain = self.load(job["model"], weights)
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
        return memory(self.import_rss_bytes)

    def serve(self) -> None:
        """Serve until the benchmark is done."""
        serve({"prepare": self.prepare, "updates": self.updates, "memory": self.memory})


if __name__ == "__main__":
    TorchSide(None if MISSING else load_gpt, MISSING, IMPORT_RSS_BYTES).serve()
