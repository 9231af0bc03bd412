"""A trained model in the files of others: a folder of Hugging Face transformers, or GGUF.

``export`` chooses, ``folder`` writes the folder; GGUF is in ``tisslm.models.gguf``.
"""

from __future__ import annotations

from tisslm.workflows.export.contents import TextForm
from tisslm.workflows.export.export import FORMATS, Exported, export
from tisslm.workflows.export.folder import write_folder

__all__ = ["FORMATS", "Exported", "TextForm", "export", "write_folder"]
