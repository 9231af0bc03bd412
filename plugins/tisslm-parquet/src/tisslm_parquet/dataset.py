"""The dataset ``parquet``: documents of parquet files, read once and kept as token ids.

Files are read in ``reader``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tisslm.contracts import Tokenizer
from tisslm.datasets import Document, PackedDataset, encode_documents
from tisslm.datasets.sources import BadRecords
from tisslm.errors import ConfigError, DataError
from tisslm_parquet.files import Paths, find_files
from tisslm_parquet.reader import read_documents

__all__ = ["ParquetDataset"]


class ParquetDataset(PackedDataset):
    """Each row of the files is a document, tokenized once and packed into rows of ``seq_len``.

    Files are read in their order, a few rows at a time. What stays in memory are the token ids,
    1, 2 or 4 bytes each by the size of the vocabulary, and 8 bytes a document.

    Parameters
    ----------
    path : str, path-like, or sequence of them
        A file, a folder (all ``*.parquet`` below it), or a pattern such as ``data/*.parquet``.
    tokenizer : Tokenizer
        The tokenizer; its end-of-text token, if it has one, ends each document.
    seq_len : int
        T, at least 1.
    column : str
        The column of the text. A file without it may have ``prompt`` and ``completion``,
        ``messages`` (a list of structs with ``role`` and ``content``), or ``instruction``,
        ``input`` and ``output``, as JSON lines may.
    packing : {"stream", "whole"}
        Whether documents may be cut where a row ends, or rows are filled with whole ones.
    document_mask : bool
        Whether documents of a row are kept apart.
    mask_prompt : bool
        Whether prompts are read without being learned.
    chat : {"template", "plain"}
        Whether ``messages`` are written by the tokenizer's chat template, or as role, content and
        a blank line.
    bad_records : {"error", "skip"}
        What happens to rows that are null, empty or not UTF-8; skipped ones are counted.
    batch_rows : int
        How many rows are decoded at a time, which bounds the memory while files are read.
    batch_size, seed : int, optional
        What iteration over the dataset uses; the Trainer fills them in when left out.

    Raises
    ------
    ConfigError
        If an option is out of bounds.
    DataError
        If a file cannot be read, is damaged, has no such column or a bad row, or there is too
        little text for one row of T.
    """

    def __init__(
        self,
        path: Paths,
        tokenizer: Tokenizer,
        seq_len: int,
        *,
        column: str = "text",
        packing: Literal["stream", "whole"] = "stream",
        document_mask: bool = True,
        mask_prompt: bool = True,
        chat: Literal["template", "plain"] = "template",
        bad_records: Literal["error", "skip"] = "error",
        batch_rows: int = 256,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        check_options(column, bad_records, batch_rows)
        self.files = find_files(path)
        self.tokenizer = tokenizer
        self.bad = BadRecords(bad_records)
        where = str(self.files[0]) + (", ..." if len(self.files) > 1 else "")
        documents = encode_documents(
            self._read(column, batch_rows, where, chat),
            tokenizer,
            mask_prompt=mask_prompt,
            where=where,
            refuse=self.bad.refuse,
        )
        super().__init__(
            documents,
            seq_len,
            packing=packing,
            document_mask=document_mask,
            batch_size=batch_size,
            seed=seed,
        )

    def _read(
        self, column: str, batch_rows: int, where: str, chat: Literal["template", "plain"]
    ) -> Iterator[Document]:
        """Yield the documents of all files; warn at the end how many rows were bad."""
        found = False
        for file in self.files:
            for document in read_documents(
                file, column, self.bad, batch_rows=batch_rows, chat=chat
            ):
                found = True
                yield document
        if not found:
            reason = self.bad.first or "give files with rows"
            raise DataError(f"{where}: expected a row with text, got none; {reason}")
        self.bad.report(where)

    @staticmethod
    def test_options(folder: Path) -> Sequence[Mapping[str, Any]]:
        """Write small files for ``tisslm.testing``, and return options that read them."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from tisslm.tokenizers import ByteTokenizer

        texts = [f"Row {i} of {i % 4 * 'a few '}rows." for i in range(12)]
        pq.write_table(pa.table({"text": texts}), folder / "texts.parquet", row_group_size=5)
        chats = {"prompt": texts, "completion": texts[::-1]}
        pq.write_table(pa.table(chats), folder / "prompts.parquet")
        base = {"tokenizer": ByteTokenizer(), "seq_len": 16}
        return (
            base | {"path": folder / "texts.parquet"},
            base | {"path": folder / "texts.parquet", "document_mask": False, "batch_rows": 1},
            base | {"path": folder / "prompts.parquet", "packing": "whole"},
        )


def check_options(column: str, bad_records: str, batch_rows: int) -> None:
    """Raise an error for options that nothing later would refuse by name."""
    if not isinstance(column, str) or not column:
        raise ConfigError(f"dataset parquet: column: expected a column's name, got {column!r}")
    if bad_records not in ("error", "skip"):
        raise ConfigError(
            f'dataset parquet: bad_records: expected "error" or "skip", got {bad_records!r}'
        )
    if not isinstance(batch_rows, int) or isinstance(batch_rows, bool) or batch_rows < 1:
        raise ConfigError(
            f"dataset parquet: batch_rows: expected an integer >= 1, got {batch_rows!r}"
        )
