"""Changes to files, drawn from a seeded generator: of bytes, JSON values and lines.

The same generator gives the same change, and a change is bounded, however large the file is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

__all__ = [
    "changed_bytes",
    "changed_json",
    "changed_lines",
    "changed_numbers",
    "changed_value",
    "written",
]

Path = tuple[Any, ...]

INTEGERS = [0, 1, -1, 2, 3, 7, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1,
            2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**31), -(2**63), 10**30,
            10**400]  # fmt: skip
FLOATS = [0.0, -0.0, 0.5, -1.5, 1e-320, 1e300, -1e300, float("inf"), float("-inf"), float("nan")]
TEXTS = ["", "a", "\0", "\n", "\x1b]0;t\x07", "é", "🙂", "\ud800", "a" * 100_000, "..", "/", "NaN"]
SIGNS = b'"{}[],:0123456789eE+-.\n\r\t \\x\x00\x7f\xff\xc3\x28'

#: Words that stand in JSON for texts that no value gives.
RAW = {
    '"<5000 digits>"': "9" * 5000,
    '"<1e999>"': "1e999",
    '"<nested>"': "[" * 3000 + "]" * 3000,
}


# --------------------------------------------------------------------------- bytes


def changed_bytes(rng: Random, content: bytes, limit: int = 2**20) -> bytes:
    """Change bytes at one to four places within the first ``limit``."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_BYTE_CHANGES)(rng, data, min(limit, len(data)))
    return bytes(data)


def _overwrite(rng: Random, data: bytearray, room: int) -> None:
    for _ in range(rng.randint(1, 3) if room else 0):
        data[rng.randrange(room)] = rng.choice(SIGNS) if rng.random() < 0.5 else rng.randrange(256)


def _flip(rng: Random, data: bytearray, room: int) -> None:
    if room:
        data[rng.randrange(room)] ^= 1 << rng.randrange(8)


def _insert(rng: Random, data: bytearray, room: int) -> None:
    at = rng.randint(0, room)
    data[at:at] = bytes(rng.choice(SIGNS) for _ in range(rng.choice([1, 2, 8, 100])))


def _remove(rng: Random, data: bytearray, room: int) -> None:
    at = rng.randint(0, room)
    del data[at : at + rng.choice([1, 2, 8, 100])]


def _repeat(rng: Random, data: bytearray, room: int) -> None:
    at = rng.randint(0, room)
    part = data[at : at + rng.choice([1, 8, 100, 1000])]
    data[at:at] = part * rng.choice([1, 3, 50])


def _cut(rng: Random, data: bytearray, room: int) -> None:
    del data[rng.randint(0, room) :]


def _number(rng: Random, data: bytearray, room: int) -> None:
    """Put an integer of two, four or eight bytes where one may be."""
    width = rng.choice([2, 4, 8])
    at = width * rng.randrange(max(1, room // width))
    value = rng.choice(INTEGERS[:-2]) % 2 ** (8 * width)
    data[at : at + width] = value.to_bytes(width, "little")


_BYTE_CHANGES: list[Callable[[Random, bytearray, int], None]] = [
    _overwrite, _flip, _insert, _remove, _repeat, _cut, _number, _number,
]  # fmt: skip


def changed_numbers(rng: Random, content: bytes, start: int, width: int) -> bytes:
    """Change some integers of a table that begins at ``start``, each of ``width`` bytes."""
    data = bytearray(content)
    rows = max(1, (len(data) - start) // width)
    first, spread = rng.randrange(rows), rng.choice([3, rows])  # neighbours, or anywhere
    for _ in range(rng.randint(1, 5)):
        at = start + width * ((first + rng.randrange(spread)) % rows)
        now = int.from_bytes(data[at : at + width], "little")
        near = [now + 1, now - 1, 2 * now, -now, now ^ (1 << rng.randrange(8 * width))]
        value = rng.choice(near if rng.random() < 0.5 else INTEGERS[:-2]) % 2 ** (8 * width)
        data[at : at + width] = value.to_bytes(width, "little")
    return bytes(data)


# --------------------------------------------------------------------------- JSON


def changed_json(rng: Random, content: bytes) -> bytes:
    """Change one to three values of a JSON text."""
    value = json.loads(content)
    alike = rng.choice([0.3, 0.95])
    for _ in range(rng.randint(1, 3)):
        value = changed_value(rng, value, alike)
    return written(value)


def written(value: Any) -> bytes:
    """Return JSON, with the texts that no value gives."""
    text = json.dumps(value)
    for word, raw in RAW.items():
        text = text.replace(word, raw)
    return text.encode()


def changed_value(rng: Random, value: Any, alike: float = 0.5) -> Any:
    """Change one value within nested lists and mappings: drop, replace, move or alter it.

    ``alike`` is how often the new value is of the same type, and no place is emptied.
    """
    places = list(_places(value))
    if not places:
        return _other(rng, value, alike)
    # what lies high is rare among thousands of numbers and means more
    depth = rng.choice(sorted({len(place) for place in places}))
    place = rng.choice([place for place in places if len(place) == depth])
    parent = _at(value, place[:-1])
    key = place[-1]
    chance = rng.random() if rng.random() > alike else 1.0
    if chance < 0.15:
        del parent[key]
    elif chance < 0.25:
        parent[key] = json.loads(json.dumps(_at(value, rng.choice(places))))
    elif chance < 0.35 and isinstance(parent, dict):
        parent[rng.choice(list(parent) + TEXTS[:6])] = parent.pop(key)
    elif chance < 0.4 and isinstance(parent, list):
        parent[key:key] = [parent[key]] * rng.choice([1, 2, 100])
    else:
        parent[key] = _other(rng, parent[key], alike)
    return value


def _places(value: Any, path: Path = ()) -> Iterator[Path]:
    if not isinstance(value, dict | list):
        return
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*path, key)
        yield from _places(value[key], (*path, key))


def _at(value: Any, place: Path) -> Any:
    for key in place:
        value = value[key]
    return value


def _other(rng: Random, value: Any, alike: float) -> Any:
    """Return another value: often a near one of its type, else of any kind."""
    if rng.random() < alike:
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return rng.choice([value + 1, value - 1, 2 * value, -value, *INTEGERS])
        if isinstance(value, float):
            return rng.choice([-value, 2 * value, *FLOATS])
        if isinstance(value, str):
            at = rng.randint(0, len(value))
            return rng.choice([value[:at], value[at:], value[:at] + rng.choice(TEXTS) + value[at:]])
        if isinstance(value, list) and value:
            return rng.choice([value[1:], value[:-1], value[::-1], value + value, value[:1]])
    return rng.choice(
        [None, True, False, rng.choice(INTEGERS), rng.choice(FLOATS), rng.choice(TEXTS), [], {},
         [1], {"a": 1}, ["a"], [[1, 2], [3]], "<5000 digits>", "<1e999>", "<nested>"]
    )  # fmt: skip


# --------------------------------------------------------------------------- lines


def changed_lines(
    rng: Random, content: bytes, change: Callable[[Random, bytes], bytes] = changed_json
) -> bytes:
    """Change lines of a text: order, number and ends, bytes, or single lines by ``change``."""
    if rng.random() < 0.2:
        return changed_bytes(rng, content)
    lines = content.splitlines(keepends=True)
    for _ in range(rng.randint(1, 3)):
        if not lines:
            break
        at = rng.randrange(len(lines))
        chance = rng.random()
        if chance < 0.1:
            del lines[at]
        elif chance < 0.2:
            lines[at:at] = [lines[rng.randrange(len(lines))]] * rng.choice([1, 20])
        elif chance < 0.3:
            lines[at] = lines[at].rstrip(b"\n")
        elif chance < 0.5:
            lines[at] = changed_bytes(rng, lines[at])
        else:
            lines[at] = _line(rng, lines[at], change)
    return b"".join(lines)


def _line(rng: Random, line: bytes, change: Callable[[Random, bytes], bytes]) -> bytes:
    try:
        return change(rng, line.rstrip(b"\n")) + b"\n"
    except (ValueError, RecursionError):  # changed before, and no JSON any more
        return changed_bytes(rng, line)
