"""Using an encoder: vectors of texts, their similarity, and files of many texts."""

from __future__ import annotations

from tisslm.workflows.embedding.embedder import TextEmbedder
from tisslm.workflows.embedding.files import Embedded, embed_file, read_texts
from tisslm.workflows.embedding.held_out import evaluate_encoder
from tisslm.workflows.embedding.loading import load_encoder

__all__ = [
    "Embedded",
    "TextEmbedder",
    "embed_file",
    "evaluate_encoder",
    "load_encoder",
    "read_texts",
]
