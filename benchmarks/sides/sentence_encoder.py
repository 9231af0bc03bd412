"""The benchmark's peer in embedding: a folder of sentence-transformers, as it opens it.

Runs in an interpreter that has torch and sentence-transformers.

What does not live here: the texts and the order of the turns.
"""

from __future__ import annotations

import time
from typing import Any

from protocol import UnavailableError, serve

try:
    import sentence_transformers
    import torch

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

__all__ = ["EncoderSide"]


class EncoderSide:
    """One encoder; see the handlers' names in ``serve``."""

    def prepare(self, folder: str, threads: int) -> dict[str, Any]:
        """Open the folder."""
        if MISSING:
            raise UnavailableError(f"its interpreter cannot import what it needs: {MISSING}")
        torch.set_num_threads(threads)
        self.model = sentence_transformers.SentenceTransformer(folder, device="cpu")
        versions = {"torch": torch.__version__, "library": sentence_transformers.__version__}
        return {"about": versions}

    def encode(self, texts: list[str], batch_size: int, vectors: bool) -> dict[str, Any]:
        """Embed texts; return how long it took, and the vectors if they are asked for."""
        begin = time.perf_counter()
        found = self.model.encode(texts, batch_size=batch_size, show_progress_bar=False)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "vectors": found.tolist() if vectors else None}

    def serve(self) -> None:
        """Answer until the benchmark ends this process."""
        serve({"prepare": self.prepare, "encode": self.encode})


if __name__ == "__main__":
    EncoderSide().serve()
