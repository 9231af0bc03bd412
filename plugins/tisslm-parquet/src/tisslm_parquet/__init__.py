"""The hook module of the parquet plugin. The dataset is in ``dataset.py``."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_datasets"]


@hookimpl
def tisslm_datasets() -> Iterable[Entry]:
    """Yield parquet."""
    yield Entry(
        "parquet",
        "tisslm_parquet.dataset:ParquetDataset",
        "texts, prompts with completions, or chats in the columns of parquet files",
        endings=(".parquet",),
        documents="tisslm_parquet.reader:file_documents",
        records="tisslm_parquet.reader:file_records",
    )
