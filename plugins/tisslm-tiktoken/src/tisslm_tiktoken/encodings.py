"""Encodings that tiktoken knows by name, whose ranks it downloads once and caches.

Files of ranks are read in ``ranks``.
"""

from __future__ import annotations

from typing import NamedTuple

from tisslm.errors import ConfigError, DataError

__all__ = ["NamedEncoding", "named_encoding"]


class NamedEncoding(NamedTuple):
    """An encoding: ranks by token, pattern, and special tokens with their ids."""

    ranks: dict[bytes, int]
    pattern: str
    special_tokens: dict[str, int]


def named_encoding(name: str, pattern: str | None = None) -> NamedEncoding:
    """Return the encoding with a name; its ranks may have to be downloaded.

    Parameters
    ----------
    name : str
    pattern : str, optional
        Not allowed: a named encoding has its own.

    Raises
    ------
    ConfigError
        If tiktoken does not know the name, or a pattern is given.
    DataError
        If the ranks can be neither found nor downloaded.
    """
    import tiktoken

    known = tiktoken.list_encoding_names()
    if name not in known:
        raise ConfigError(
            f"tiktoken tokenizer: expected encoding as one of {', '.join(known)}, got {name!r}; "
            "for ranks of your own, set path and pattern instead"
        )
    if pattern is not None:
        raise ConfigError(
            f"tiktoken tokenizer: encoding {name!r} has a pattern, so none is taken; leave pattern "
            "out, or set path to a file of ranks"
        )
    try:
        found = tiktoken.get_encoding(name)
    except Exception as error:  # whatever the network, the disk or the file has to say
        raise DataError(
            f"tiktoken tokenizer: the ranks of encoding {name!r} could not be downloaded "
            f"({type(error).__name__}); run tiktoken.get_encoding({name!r}) where there is a "
            "network with TIKTOKEN_CACHE_DIR set to a folder, copy the folder here and set the "
            "variable to it, or set path to a .tiktoken file, and pattern and special_tokens"
        ) from error
    # These three are how tiktoken's documentation extends an encoding.
    return NamedEncoding(dict(found._mergeable_ranks), found._pat_str, dict(found._special_tokens))
