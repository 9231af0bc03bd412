"""The files of a Hugging Face folder that describe a tokenizer: reading and writing them."""

from __future__ import annotations

from tisslm.tokenizers.huggingface.content import BYTE_LEVEL, BYTES, ONE_BY_ONE, tokenizer_json
from tisslm.tokenizers.huggingface.folder import read_folder
from tisslm.tokenizers.huggingface.of_texts import files_of_texts
from tisslm.tokenizers.huggingface.publishing import published_files

__all__ = [
    "BYTES",
    "BYTE_LEVEL",
    "ONE_BY_ONE",
    "files_of_texts",
    "published_files",
    "read_folder",
    "tokenizer_json",
]
