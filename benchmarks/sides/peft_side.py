"""The benchmark's peer in fine-tuning: PEFT's adapters on a model of transformers.

Runs in an interpreter that has torch, transformers, PEFT and NumPy. The step is that of the other
peers (``torch_gpt``), with an optimizer over the adapters alone.

What does not live here: the folder of the model and that of the adapters, which are made by our
side; the order of the turns.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from protocol import UnavailableError, memory, resident_bytes, serve

try:
    import numpy as np
    import peft
    import torch
    import transformers
    from torch_gpt import make_adamw, train_update
    from transformers_llama import CausalLM

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

IMPORT_RSS_BYTES = resident_bytes("VmRSS")

__all__ = ["PeftSide"]


class PeftSide:
    """One model with adapters and one batch; see the handlers' names in ``serve``."""

    def prepare(
        self, job: dict[str, Any], folder: str, adapters: str, precision: str, compiled: bool
    ) -> dict[str, Any]:
        """Open the model and the adapters.

        The ``precision`` is "fp32"; "autocast" for weights in fp32 and passes under autocast in
        bf16; or "bf16" for a model whose weights are that, beside adapters that PEFT keeps in fp32.
        """
        if MISSING:
            raise UnavailableError(f"its interpreter cannot import what it needs: {MISSING}")
        if compiled and not shutil.which(os.environ.get("CXX", "g++")):
            raise UnavailableError("torch.compile needs a C++ compiler, and there is none")
        torch.set_num_threads(job["threads"])
        kept = torch.bfloat16 if precision == "bf16" else torch.float32
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=kept, attn_implementation="sdpa", use_cache=False
        )
        tuned = peft.PeftModel.from_pretrained(model, adapters, is_trainable=True)
        self.model: Any = CausalLM(tuned)
        if compiled:
            self.model = torch.compile(self.model)
        self.autocast = torch.bfloat16 if precision == "autocast" else None
        trained = torch.nn.ModuleList()  # a module of what is trained, as make_adamw takes it
        trained.weights = torch.nn.ParameterList(p for p in tuned.parameters() if p.requires_grad)
        options = {**job["adamw"], "betas": tuple(job["adamw"]["betas"])}
        self.optimizer = make_adamw(trained, **options, fused=True)
        self.max_grad_norm = job["max_grad_norm"]
        rng = np.random.default_rng(job["seed"])
        shape = (2, job["batch"], job["time"])
        drawn = rng.integers(0, model.config.vocab_size, shape, np.int32).astype(np.int64)
        self.x, self.y = torch.from_numpy(drawn)
        return {"about": {"torch": torch.__version__, "peft": peft.__version__}}

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

    def serve(self) -> None:
        """Answer until the benchmark ends this process."""
        serve({"prepare": self.prepare, "updates": self.updates, "memory": self.memory})


if __name__ == "__main__":
    PeftSide().serve()
