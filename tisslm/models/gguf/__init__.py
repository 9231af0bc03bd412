"""Models in GGUF files, as llama.cpp runs them: read, and written.

The container is in ``tisslm.system.gguf_files``. Here is what its metadata and names mean:
``architectures`` has the names of tensors and what each architecture can say, ``metadata`` checks
keys, ``rope`` has scaled rotary positions, ``vocabulary`` and its neighbours the tokenizer.
"""

from __future__ import annotations

from tisslm.models.gguf.reading import read_gguf
from tisslm.models.gguf.writing import DTYPES, write_gguf

__all__ = ["DTYPES", "read_gguf", "write_gguf"]
