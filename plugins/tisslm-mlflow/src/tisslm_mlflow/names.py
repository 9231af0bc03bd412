"""Turning names of metrics and settings into names and values that MLflow accepts."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping

__all__ = ["key", "settings"]

#: Characters that MLflow refuses in a name, and the greatest length of a name.
REFUSED = re.compile(r"[^\w\-. :/]|[\t\n\r\f\v]")
LONGEST = 250

#: The greatest length of a setting's value on the oldest servers.
LONGEST_VALUE = 500


def key(name: str) -> str:
    """Return a name that MLflow accepts: unchanged if possible, else changed to a unique one.

    Characters that MLflow refuses become ``_``, and a checksum of the original is appended, so that
    two names stay distinct.
    """
    parts = [re.sub(r"^\.{1,2}$|^$", "_", part) for part in REFUSED.sub("_", name).split("/")]
    clean = "/".join(parts)
    if clean == name and len(name) <= LONGEST:
        return name
    return f"{clean[: LONGEST - 9]}_{zlib.crc32(name.encode(errors='backslashreplace')):08x}"


def settings(config: Mapping[str, object]) -> dict[str, str]:
    """Return nested settings as flat texts, ``{"training.seed": "1"}``; long ones are cut."""
    return {key(name): _text(value) for name, value in _flat(config, "")}


def _flat(config: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
