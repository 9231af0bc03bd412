"""Files that may come from anyone: regular files only, read within limits; JSON read strictly.

A checkpoint is passed around, and can be cut, mixed up or made to harm. What is read here is
bounded in bytes, values and depth before anything is built from it, and a name never leads to a
device, a FIFO or, where files of a checkpoint are read, out of its directory by a link.

What does not live here: what a file means, and texts that a user names to train on.

References
----------
RFC 8259, sections 4, 6 and 9, on names that are not unique, numbers without bounds, and limits.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tisslm.errors import CheckpointError, TissLMError

__all__ = ["CHECKPOINT", "Refusal", "RegularFile", "parse_json", "read_json", "show"]

_BLOCK = 2**20  # bytes read together to be hashed: they are in the second-level cache still
_SHOWN = 60  # characters of a name that a message repeats

#: Brackets outside of strings, and strings whole. What no quote ends goes to the end of the text,
#: as it does for the parser, so a scan takes time in proportion to the text.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Refusal:
    """How a file that cannot be used is refused.

    Attributes
    ----------
    error : type of TissLMError
    verdict : str
        What the reason means, such as "the checkpoint is damaged or incomplete".
    advice : str
        What to do, such as "use an earlier one".
    """

    error: type[TissLMError]
    verdict: str
    advice: str

    def __call__(self, path: str | os.PathLike[str], reason: object) -> TissLMError:
        """Return the exception for a file and a reason."""
        return self.error(f"{os.fspath(path)}: {self.verdict} ({reason}); {self.advice}")


CHECKPOINT = Refusal(
    CheckpointError, "the checkpoint is damaged or incomplete", "use an earlier one"
)


def show(text: object) -> str:
    """Return what a file calls something, quoted and short, with no character that acts."""
    name = text if isinstance(text, str) else repr(text)
    return ascii(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


# --------------------------------------------------------------------------- files

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class RegularFile:
    """A regular file, opened for reading once: later reads are of the same file, whatever its name.

    It is closed by ``close``, at the end of a ``with`` block, or when nothing refers to it.

    Parameters
    ----------
    path : str or Path
    refusal : Refusal
        For every error of this file.
    follow : bool
        Whether the last part of the path may be a symbolic link.

    Attributes
    ----------
    path : Path
    size : int
        Bytes, when it was opened.

    Raises
    ------
    TissLMError
        The refusal's, if the file is missing, no regular file, or cannot be opened.
    """

    def __init__(
        self, path: str | os.PathLike[str], refusal: Refusal = CHECKPOINT, *, follow: bool = False
    ) -> None:
        self.path = Path(path)
        self.refusal = refusal
        # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            self._handle = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
        except (OSError, ValueError) as error:
            raise refusal(path, _open_reason(error, follow)) from None
        self._close = weakref.finalize(self, os.close, self._handle)
        found = os.fstat(self._handle)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
            raise refusal(path, f"expected a regular file, got {kind}")
        self.size = found.st_size

    def close(self) -> None:
        """Close the file; reading is over."""
        self._close()

    def __enter__(self) -> RegularFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> None:
        """Fill a writable buffer with the bytes from ``offset`` on.

        Raises
        ------
        TissLMError
            If the file ends before, or the disk fails.
        """
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._handle, [view[done:]], offset + done)
            except OSError as error:
                raise self.refusal(self.path, error.strerror) from error
            if got == 0:
                raise self.refusal(
                    self.path,
                    f"expected {offset + len(view)} bytes, got {offset + done}: "
                    "the file was cut while it was read",
                )
            done += got

    def read(self, limit: int) -> bytearray:
        """Return all bytes of a file that has at most ``limit``.

        Raises
        ------
        TissLMError
            If it has more, or cannot be read.
        """
        if self.size > limit:
            raise self.refusal(self.path, f"expected at most {limit} bytes, got {self.size}")
        data = bytearray(self.size)
        self.read_into(data, 0)
        return data

    def sha256(self) -> str:
        """Return the SHA-256 of all bytes, in hexadecimal; memory is 1 MiB.

        Raises
        ------
        TissLMError
            If the file cannot be read to its end.
        """
        digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
        for start in range(0, self.size, _BLOCK):
            part = block[: min(_BLOCK, self.size - start)]
            self.read_into(part, start)
            digest.update(part)
        return digest.hexdigest()


def _open_reason(error: OSError | ValueError, follow: bool) -> str:
    if isinstance(error, ValueError):  # a zero byte in the path
        return "expected a path, got one with a zero byte"
    if error.errno == errno.ELOOP and not follow:
        return "expected a regular file, got a symbolic link"
    if error.errno == errno.ENXIO:
        return "expected a regular file, got a socket or a device"
    return error.strerror or str(error)


# --------------------------------------------------------------------------- JSON


class _RefusedError(ValueError):
    """A reason to refuse a text, raised inside the parser."""


def read_json(
    path: str | os.PathLike[str], limit: int, refusal: Refusal = CHECKPOINT, **limits: Any
) -> dict[str, Any]:
    """Read a file of one JSON object.

    Parameters
    ----------
    path : str or Path
        Of a regular file, and no symbolic link.
    limit : int
        Bytes that the file may have.
    refusal : Refusal
    **limits
        The keyword arguments of ``parse_json``.

    Raises
    ------
    TissLMError
        The refusal's, if the file cannot be read or ``parse_json`` refuses it.
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
        Where they come from, for messages.
    refusal : Refusal
    max_values : int
        Commas and opening brackets that the text may have: what bounds the memory of the result
        (about 60 bytes for each).
    max_depth : int
        Objects and lists inside each other.
    allow_nan : bool
        Whether NaN and the infinities may be there, as Python writes them.

    Raises
    ------
    TissLMError
        The refusal's, if the text is no JSON object, exceeds a limit, has a key twice in an object,
        NaN or a number beyond float64 that are not allowed, or half of a surrogate pair.
    """
    try:
        _check_size(data, max_values, max_depth)
        value = json.loads(
            str(data, "utf-8"),
            object_pairs_hook=_object,
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
    """Count commas and brackets before anything is built of them."""
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


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
