"""What sentence-transformers adds to the folder of a model: pooling, projection, normalization.

``writing`` has the files of an encoder of ours, ``reading`` what such files say of one.
"""

from __future__ import annotations

from tisslm.models.huggingface.sentence_transformers.reading import (
    MODULES,
    Modules,
    read_modules,
    read_text_form,
)
from tisslm.models.huggingface.sentence_transformers.writing import (
    DENSE,
    LINEAR,
    body_of,
    module_files,
)

__all__ = [
    "DENSE",
    "LINEAR",
    "MODULES",
    "Modules",
    "body_of",
    "module_files",
    "read_modules",
    "read_text_form",
]
