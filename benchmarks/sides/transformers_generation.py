"""The benchmark's peer in generation: greedy ids of a model of transformers, with its cache.

Runs in an interpreter that has torch, transformers and NumPy.

What does not live here: the model (``transformers_llama``), the order of the turns.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from protocol import UnavailableError, serve

try:
    import numpy as np
    import torch
    import transformers
    from transformers_llama import load_llama

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

__all__ = ["GenerationSide"]


class GenerationSide:
    """One model; see the handlers' names in ``serve``."""

    def prepare(self, job: dict[str, Any], folder: str) -> dict[str, Any]:
        """Build the model with the weights that our side has left."""
        if MISSING:
            raise UnavailableError(f"its interpreter cannot import what it needs: {MISSING}")
        with np.load(Path(folder) / "weights.npz") as weights:
            self.model = load_llama(job["model"], weights).model.eval()
        return {"about": {"torch": torch.__version__, "transformers": transformers.__version__}}

    def generate(self, prompt: list[int], tokens: int, threads: int) -> dict[str, Any]:
        """Return greedy ids and how long they took, the reading of the prompt included."""
        torch.set_num_threads(threads)
        ids = torch.tensor([prompt])
        begin = time.perf_counter()
        with torch.inference_mode():
            found = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                use_cache=True,
            )
        seconds = time.perf_counter() - begin
        return {"ids": found[0, len(prompt) :].tolist(), "seconds": seconds}

    def serve(self) -> None:
        """Answer until the benchmark ends this process."""
        serve({"prepare": self.prepare, "generate": self.generate})


if __name__ == "__main__":
    GenerationSide().serve()
