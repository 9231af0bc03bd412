"""The hook module of the tiktoken plugin. The tokenizer is in ``tokenizer.py``."""

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
