"""Regular expressions by which well-known encodings split a text before merging byte pairs.

A file of ranks does not record how texts are split, and another pattern gives other tokens, so the
pattern must be named. These are the patterns of tiktoken.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tisslm.errors import ConfigError

__all__ = ["MAX_PATTERN", "PATTERNS", "check_pattern"]

#: The most characters of a pattern; the longest of tiktoken's own has 300.
MAX_PATTERN = 10_000

_GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

_CL100K = "|".join(
    (
        r"""'(?i:[sdmt]|ll|ve|re)""",
        r"""[^\r\n\p{L}\p{N}]?+\p{L}++""",
        r"""\p{N}{1,3}+""",
        r""" ?[^\s\p{L}\p{N}]++[\r\n]*+""",
        r"""\s++$""",
        r"""\s*[\r\n]""",
        r"""\s+(?!\S)""",
        r"""\s""",
    )
)

_CONTRACTION = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""

_O200K = "|".join(
    (
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"""
        + _CONTRACTION,
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"""
        + _CONTRACTION,
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    )
)

#: Patterns by the name of an encoding, which may be written in place of a pattern.
PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "gpt2": _GPT2,
        "r50k_base": _GPT2,
        "p50k_base": _GPT2,
        "cl100k_base": _CL100K,
        "o200k_base": _O200K,
    }
)


def check_pattern(pattern: str | None) -> str:
    """Return the pattern, which may be given by the name of its encoding.

    Raises
    ------
    ConfigError
        If the pattern is missing, empty or too long.
    """
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN:
        shown = f"{len(pattern)} characters" if isinstance(pattern, str) else repr(pattern)
        raise ConfigError(
            "tiktoken tokenizer: expected pattern as the name of an encoding "
            f"({', '.join(PATTERNS)}) or a regular expression of at most {MAX_PATTERN} characters, "
            f"got {shown}; a file of ranks does not have it, and a wrong one gives wrong tokens"
        )
    return PATTERNS.get(pattern, pattern)
