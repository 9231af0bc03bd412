"""Which form a published model has, by its path."""

from __future__ import annotations

from pathlib import Path

from tisslm.models.published import Published

__all__ = ["read_published"]

#: How names of GGUF files end.
GGUF = ".gguf"


def read_published(
    path: str | Path, *, any_dropout: bool = False, tokenizer: bool = True
) -> Published:
    """Read a published model: a folder of Hugging Face transformers, or a GGUF file.

    Parameters
    ----------
    path : str or Path
    any_dropout : bool
        Whether its dropout is of no interest, since another takes its place.
    tokenizer : bool
        Whether the vocabulary inside, if there is one, is read, too, and has to be one that is
        known.

    Raises
    ------
    CheckpointError
        If it is none, or one that is not known.
    """
    if Path(path).suffix.lower() == GGUF:
        from tisslm.models.gguf.reading import read_gguf

        return read_gguf(path, tokenizer=tokenizer)
    from tisslm.models.huggingface.folder import read_folder

    return read_folder(path, any_dropout=any_dropout)
