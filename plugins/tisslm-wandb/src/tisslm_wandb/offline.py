"""Reading the files that an offline W&B run has written.

wandb itself reads these files only to upload them. They are a log in the form of LevelDB, whose
records are wandb's own protobuf messages.

References
----------
https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tisslm.errors import DataError

__all__ = ["files", "history"]

#: The file's own header, a block, and the header of a part of a record: checksum, length, type.
MAGIC = b":W&B"
HEADER, BLOCK, PART = 7, 32768, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def files(directory: Path) -> list[Path]:
    """Return the files of a run directory's sessions, in the order of their start."""
    return sorted(Path(directory).glob("wandb/offline-run-*/run-*.wandb"), key=_began)


def _began(path: Path) -> float:
    """Return the start time in the first record of a file; infinity without one."""
    from wandb.proto import wandb_internal_pb2

    for content in _records(path):
        record = wandb_internal_pb2.Record.FromString(content)
        if record.WhichOneof("record_type") == "run":
            return float(record.run.start_time.ToNanoseconds())
    return math.inf


def history(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the logged metrics, one mapping for each call of ``log``, as plain JSON values.

    Parameters
    ----------
    path : Path
        A file ``run-<id>.wandb``.

    Raises
    ------
    DataError
        If it is no such file, or damaged before its end; a record that a crash has cut off is left
        out.
    """
    from wandb.proto import wandb_internal_pb2

    for content in _records(path):
        record = wandb_internal_pb2.Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            yield _plain(record.history.item)


def _plain(items: Any) -> dict[str, Any]:
    """Return the items of one call; those of a histogram or a file are a nested mapping."""
    found: dict[str, Any] = {}
    for item in items:
        *above, name = item.nested_key or [item.key]
        place = found
        for key in above:
            place = place.setdefault(key, {})
        place[name] = json.loads(item.value_json)
    return found


def _records(path: Path) -> Iterator[bytes]:
    """Yield whole records, joined from their fragments."""
    data = path.read_bytes()
    if not data:  # a run that has just begun
        return
    if not data.startswith(MAGIC):
        raise DataError(f"{path}: expected a file of an offline W&B run (run-<id>.wandb), got none")
    at, parts = HEADER, b""
    while at + PART <= len(data):
        if (left := BLOCK - at % BLOCK) < PART:  # no header fits: the rest of a block is filled
            at += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, at)
        body = data[at + PART : at + PART + length]
        if len(body) < length or not kind:
            return
        if zlib.crc32(body, zlib.crc32(bytes([kind]))) != checksum:
            raise DataError(f"{path}: the record at byte {at} is damaged; copy the file again")
        at += PART + length
        parts = body if kind in (WHOLE, FIRST) else parts + body
        if kind in (WHOLE, LAST):
            yield parts
