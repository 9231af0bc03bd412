"""The benchmark's peer for other families: a model of transformers, eager or compiled.

Runs in an interpreter that has torch, transformers and NumPy. The step is that of the peer for
GPT-2 (``torch_side``).

What does not live here: the model (``transformers_llama``), the order of the turns.
"""

from __future__ import annotations

from protocol import resident_bytes
from torch_side import TorchSide

try:
    from transformers_llama import load_llama as load

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

IMPORT_RSS_BYTES = resident_bytes("VmRSS")

if __name__ == "__main__":
    TorchSide(None if MISSING else load, MISSING, IMPORT_RSS_BYTES).serve()
