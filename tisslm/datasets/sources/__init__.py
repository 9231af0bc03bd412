"""Sources of data: files and folders of text, of JSON records, and of ready tokens."""

from __future__ import annotations

from tisslm.datasets.sources.formats import (
    FORMATS,
    find_format,
    read_documents,
    read_tokens,
    split_files,
)
from tisslm.datasets.sources.jsonl import record_document, record_pieces
from tisslm.datasets.sources.options import BadRecords, Format, ReadOptions
from tisslm.datasets.sources.streams import read_text_blocks

__all__ = [
    "FORMATS",
    "BadRecords",
    "Format",
    "ReadOptions",
    "find_format",
    "read_documents",
    "read_text_blocks",
    "read_tokens",
    "record_document",
    "record_pieces",
    "split_files",
]
