"""TOML for untrusted files: parsed within limits.

The standard library's parser takes time quadratic in the length of a dotted key. Real
configurations have some hundred lines, and keys of two or three parts.
"""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any

from tisslm.system.safe_files import Refusal, RegularFile

__all__ = ["LARGEST_TOML", "parse_toml", "parse_value", "read_toml"]

LARGEST_TOML = 2**18  # bytes
_MOST_PARTS = 20
_LEAST, _MOST = -(2**63), 2**64 - 1  # a seed may have all 64 bits

_KEY = re.compile(
    rf"""(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{_MOST_PARTS}}}"""
)


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    Raises
    ------
    ValueError
        If it is larger than ``LARGEST_TOML``, has a key of more than 20 parts, an integer of more
        than 64 bits, lists nested too deep, or is no TOML (then it is
        ``tomllib.TOMLDecodeError``).
    """
    if len(text) > LARGEST_TOML:
        raise ValueError(f"it has more than {LARGEST_TOML} characters")
    if _KEY.search(text):
        raise ValueError(f"a key has more than {_MOST_PARTS} parts")
    try:
        found = tomllib.loads(text)
        _check_integers(found)
    except RecursionError:
        raise ValueError("lists are nested too deep") from None
    return found


def parse_value(text: str) -> Any:
    """Parse a TOML value, as in a shell's ``key=value``.

    Raises
    ------
    ValueError
        As ``parse_toml``, or if the text is more than one value.
    """
    table = parse_toml(f"value = {text}")
    if len(table) != 1:
        raise ValueError("it is more than one value")
    return table["value"]


def _check_integers(value: Any) -> None:
    """Raise an error for integers of more than 64 bits; hexadecimal ones may have any length."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_integers(inner)
    elif isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise ValueError(f"an integer has {value.bit_length()} bits, more than 64")


def read_toml(path: str | os.PathLike[str], refusal: Refusal) -> dict[str, Any]:
    """Read a regular file of TOML in UTF-8; a symbolic link is followed.

    Raises
    ------
    TissLMError
        If it cannot be read, or ``parse_toml`` refuses it; ``refusal`` decides which.
    """
    with RegularFile(path, refusal, follow=True) as file:
        data = file.read(LARGEST_TOML)
    try:
        return parse_toml(data.decode("utf-8"))
    except ValueError as error:
        raise refusal(path, error) from None
