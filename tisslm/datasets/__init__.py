"""Datasets: texts, documents and token arrays, as rows of tokens in a keyed random order."""

from __future__ import annotations

from tisslm.datasets.documents import Document, TokenDocuments
from tisslm.datasets.encoding import encode_documents
from tisslm.datasets.examples.dataset import ExampleDataset
from tisslm.datasets.mixed import MixedDataset
from tisslm.datasets.packed import PackedDataset
from tisslm.datasets.permutation import KeyedPermutation
from tisslm.datasets.sources import ReadOptions, read_documents, read_tokens
from tisslm.datasets.sources.python_docs import python_docs_text
from tisslm.datasets.text import TextDataset, read_text, split_text
from tisslm.datasets.tokens import TokenDataset

__all__ = [
    "Document",
    "ExampleDataset",
    "KeyedPermutation",
    "MixedDataset",
    "PackedDataset",
    "ReadOptions",
    "TextDataset",
    "TokenDataset",
    "TokenDocuments",
    "encode_documents",
    "python_docs_text",
    "read_documents",
    "read_text",
    "read_tokens",
    "split_text",
]
