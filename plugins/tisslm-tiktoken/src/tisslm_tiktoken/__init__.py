"""The tiktoken tokenizer for TissLM: the hook that names it. The class is in ``tokenizer.py``."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_tokenizers"]


@hookimpl
def tisslm_tokenizers() -> Iterable[Entry]:
    """Yield tiktoken."""
    yield Entry(
        "tiktoken",
        "tisslm_tiktoken.tokenizer:TiktokenTokenizer",
        "byte pairs by tiktoken, of a named encoding or a .tiktoken file",
    )
