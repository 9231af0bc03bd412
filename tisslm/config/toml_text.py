"""Writing TOML: strings, numbers, booleans, lists and tables, to any depth.

References
----------
TOML 1.0.0, https://toml.io/en/v1.0.0
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tisslm.errors import ConfigError

__all__ = ["dump_toml"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
    '"': '\\"',
    "\\": "\\\\",
}


def dump_toml(table: Mapping[str, object]) -> str:
    """Return a table as the text of a TOML document.

    Parameters
    ----------
    table : mapping
        Keys are strings; values are strings, booleans, integers, floats, lists or tables.

    Returns
    -------
    str
        ``tomllib.loads`` turns it back into an equal table.

    Raises
    ------
    ConfigError
        If a value is of another type, or a string is no valid Unicode.

    Examples
    --------
    >>> print(dump_toml({"seed": 1, "log": {"sinks": ["csv"]}}), end="")
    seed = 1
    <BLANKLINE>
    [log]
    sinks = ["csv"]
    """
    blocks = [text for text in _blocks(table, ()) if text]
    return "\n".join(blocks)


def _blocks(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    """Return one text for the table's own values, then one for each table below it."""
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines = [
        f"{_key(key)} = {_value(value, (*path, key))}\n"
        for key, value in table.items()
        if key not in tables
    ]
    if path and (lines or not tables):
        lines.insert(0, f"[{'.'.join(map(_key, path))}]\n")
    return ["".join(lines)] + [
        text for key, value in tables.items() for text in _blocks(value, (*path, key))
    ]


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key, (key,))


def _value(value: object, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string(value, path)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item, path) for item in value)}]"
    if isinstance(value, Mapping):
        inner = (f"{_key(key)} = {_value(item, (*path, key))}" for key, item in value.items())
        return f"{{{', '.join(inner)}}}"
    raise ConfigError(
        f"{'.'.join(path)}: expected a value that TOML can hold (string, number, boolean, list, "
        f"table), got {type(value).__name__}"
    )


def _string(text: str, path: tuple[str, ...]) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{'.'.join(path)}: expected a string of valid Unicode, got {text!r:.200}"
        ) from None
    return f'"{"".join(map(_character, text))}"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return f"\\u{ord(char):04X}" if ord(char) < 0x20 or ord(char) == 0x7F else char
