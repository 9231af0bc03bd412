"""Files in the format GGUF, of llama.cpp: metadata, and arrays that may be kept in blocks of bits.

Why there is code for it here: the reader of the package ``gguf`` maps a file and trusts what it
says, so that a count in its first bytes can take all memory, and a file that is cut meanwhile ends
the process by a signal. Of that package, only the arithmetic of blocks is used (``blocks``).

``kinds`` has the format's types, ``header`` what stands before the arrays, ``reading`` and
``writing`` files. What metadata and names mean for a model is in ``tisslm.models.gguf``.

References
----------
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from tisslm.system.gguf_files.reading import GgufFile
from tisslm.system.gguf_files.writing import Tensor, gguf_chunks

__all__ = ["GgufFile", "Tensor", "gguf_chunks"]
