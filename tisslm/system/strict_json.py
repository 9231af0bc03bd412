"""Strict JSON for untrusted files: one object, parsed within limits.

Bytes, values and depth are bounded before anything is built. Duplicate keys, about which readers
disagree, are refused, and so are numbers that float64 cannot hold.

Files are opened in ``safe_files``.

References
----------
RFC 8259, sections 4, 6 and 9, on names that are not unique, numbers without bounds, and limits.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

from tisslm.system.safe_files import CHECKPOINT, Refusal, RegularFile, show

__all__ = [
    "parse_json",
    "plain_number",
    "read_json",
    "read_number",
]

#: Brackets outside of strings, and strings whole. What no quote ends goes to the end of the text,
#: as it does for the parser, so a scan takes time in proportion to the text.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_LONGEST = len(str(int(sys.float_info.max)))  # digits that an integer of float64 may have
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % _LONGEST)
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _RefusedError(ValueError):
    """Raised inside the parser to refuse a text."""


def read_json(
    path: str | os.PathLike[str], limit: int, refusal: Refusal = CHECKPOINT, **limits: Any
) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Parameters
    ----------
    path : str or Path
        The path of a regular file; a symbolic link is refused.
    limit : int
        The most bytes that the file may have.
    refusal : Refusal
    **limits
        The keyword arguments of ``parse_json``.

    Raises
    ------
    TissLMError
        If the file cannot be read, or ``parse_json`` refuses it.
    """
    with RegularFile(path, refusal) as file:
        return parse_json(file.read(limit), path, refusal, **limits)


def parse_json(
    data: bytes | bytearray,
    path: str | os.PathLike[str],
    refusal: Refusal = CHECKPOINT,
    *,
    max_values: int = 2**20,
    max_depth: int = 64,
    allow_nan: bool = False,
) -> dict[str, Any]:
    """Parse one JSON object in UTF-8, more strictly than the standard library.

    Parameters
    ----------
    data : bytes
    path : str or Path
        The file that the data are from, for messages.
    refusal : Refusal
    max_values : int
        The most commas and opening brackets of the text, which bounds the memory of the result
        (about 60 bytes for each).
    max_depth : int
        The deepest nesting of objects and lists.
    allow_nan : bool
        Whether NaN and infinities are allowed, as Python writes them.

    Raises
    ------
    TissLMError
        If the text is no JSON object, exceeds a limit, has a duplicate key, a lone surrogate, or an
        integer beyond float64; or, unless ``allow_nan``, NaN or any number beyond float64.
    """
    try:
        _check_size(data, max_values, max_depth)
        value = json.loads(
            str(data, "utf-8"),
            object_pairs_hook=_object,
            parse_int=_in_range if _LONG_NUMBER.search(data) else None,  # a call for each is dear
            parse_constant=float if allow_nan else _no_constant,
            parse_float=None if allow_nan else _finite,
        )
        if _SURROGATE.search(data):  # half of a pair is no text, and fails wherever it is written
            json.dumps(value, ensure_ascii=False).encode()
    except _RefusedError as reason:
        raise refusal(path, reason) from None
    except UnicodeDecodeError as error:
        got = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise refusal(path, f"expected UTF-8, got {got}") from None
    except UnicodeEncodeError:
        raise refusal(path, "expected text, got half of a surrogate pair") from None
    except (ValueError, RecursionError) as error:
        raise refusal(path, f"expected JSON: {error}") from None
    if not isinstance(value, dict):
        raise refusal(path, f"expected a JSON object, got {_kind(value)}")
    return value


def _check_size(data: bytes | bytearray, max_values: int, max_depth: int) -> None:
    """Count commas and brackets, and the depth, before anything is built."""
    opened = data.count(b"[") + data.count(b"{")
    if opened + data.count(b",") > max_values:  # those in strings, too: a bound, not a count
        raise _RefusedError(f"expected JSON of at most {max_values} values, got more")
    if opened <= max_depth:
        return
    depth = 0
    for token in _TOKEN.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            if depth > max_depth:
                raise _RefusedError(f"expected JSON of at most {max_depth} levels, got more")
        elif first in b"]}":
            depth -= 1


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in times if times[name] > 1)
        raise _RefusedError(f"the key {show(twice)} is there twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise _RefusedError(f"expected numbers as JSON has them, got {text}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _RefusedError(f"expected a finite number, got {show(text)}")
    return number


def _in_range(text: str) -> int:
    """Return an integer within the range of float64, so that no later conversion overflows."""
    digits = len(text.removeprefix("-"))
    if digits > _LONGEST or not math.isfinite(float(text)):
        raise _RefusedError(f"expected an integer that float64 has, got one of {digits} digits")
    return int(text)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def plain_number(number: float) -> float | str:
    """Return a finite number unchanged, others as "NaN", "Infinity" or "-Infinity", as JSON needs.

    ``float()`` reads these words in Python, ``Number()`` in JavaScript.
    """
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def read_number(value: object) -> float | None:
    """Invert ``plain_number``; return None for anything that it cannot have returned.

    Examples
    --------
    >>> read_number(2), read_number("-Infinity"), read_number("2"), read_number(True)
    (2.0, -inf, None, None)
    """
    if isinstance(value, str):
        return float(value) if value in _NOT_FINITE else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
