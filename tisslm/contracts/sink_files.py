"""Files that sinks keep in the run directory, and how a sink says that it cannot write one.

A sink that belongs to a run elsewhere (a server, another tool) remembers it in a small JSON file,
which a resumed run reads again. The file is on the disk, whole, when ``write_record`` returns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tisslm.errors import ConfigError, DataError
from tisslm.system.durable import replacing
from tisslm.system.safe_files import Refusal
from tisslm.system.strict_json import read_json

__all__ = ["open_error", "read_record", "write_error", "write_record"]

_LARGEST: Final = 65536


def write_record(sink: str, path: Path, record: object) -> None:
    """Write a small JSON file that takes the place of an older one whole or not at all.

    Parameters
    ----------
    sink : str
        Name of the sink, for messages.
    path : Path
        In the run directory.
    record : object
        What ``json.dumps`` takes.

    Raises
    ------
    ConfigError
        If the disk refuses it; what was there is untouched.
    """
    try:
        with replacing(path) as file:
            file.write(json.dumps(record).encode())
    except OSError as error:
        raise open_error(sink, path, error) from None


def read_record(sink: str, path: Path, texts: tuple[str, ...]) -> Mapping[str, Any] | None:
    """Read what ``write_record`` has written.

    Parameters
    ----------
    sink : str
        Name of the sink, for messages.
    path : Path
    texts : tuple of str
        Keys that the record must have, with texts as values.

    Returns
    -------
    mapping, optional
        None if there is no such file.

    Raises
    ------
    ConfigError
        If it is no regular file of a JSON object with these keys, or larger than 64 KiB.
    """
    if not os.path.lexists(path):
        return None
    refusal = Refusal(
        ConfigError, f"the sink {sink} cannot go on with it", "delete it to begin a new run there"
    )
    record = read_json(path, _LARGEST, refusal)
    if not all(isinstance(record.get(key), str) and record[key] for key in texts):
        raise refusal(path, f"expected texts as {' and '.join(texts)}")
    return record


def open_error(sink: str, path: Path, error: OSError) -> ConfigError:
    """Return the error for a file that cannot be opened or made."""
    return ConfigError(
        f"sink {sink}: {path} cannot be written ({error.strerror}); choose another "
        "training.output_dir, or leave the sink out of log.sinks"
    )


def write_error(sink: str, path: Path, error: OSError) -> DataError:
    """Return the error for a file that can no longer be written."""
    return DataError(
        f"sink {sink}: {path} can no longer be written ({error.strerror}); make room on that "
        "disk or mend its permissions"
    )
