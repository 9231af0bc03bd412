"""Reading and writing the ``.tiktoken`` format: a token in base64 and its rank in each line.

A rank is both the token's id and its place in the order of merges. Checkpoints store the same text,
so that one parser reads both, with the same limits.
"""

from __future__ import annotations

import base64
import binascii
import stat
from collections.abc import Mapping
from pathlib import Path

from tisslm.errors import DataError

__all__ = ["MAX_BYTES", "MAX_IDS", "format_ranks", "parse_ranks", "read_ranks"]

#: The most bytes of a file; that of o200k_base, 200,000 tokens, has 3.6 MB.
MAX_BYTES = 2**26

#: The bound of ids, which limits the tables that are made from a small file.
MAX_IDS = 2**22

N_BYTES = 256


def read_ranks(path: Path) -> dict[bytes, int]:
    """Read a file of ranks.

    Raises
    ------
    DataError
        If the file cannot be read, is no regular file, is larger than ``MAX_BYTES``, or has another
        format.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise DataError(
                f"{path}: expected a .tiktoken file, got something that is no ordinary file; set "
                "tokenizer.path to the file of ranks"
            )
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); set tokenizer.path to a .tiktoken file, "
            "which has a token in base64 and its rank in each line"
        ) from error
    try:
        return parse_ranks(raw.decode("ascii"), str(path))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: expected a token in base64 and its rank, got byte "
            f"0x{raw[error.start]:02x}; check that it is a .tiktoken file"
        ) from None


def parse_ranks(content: str, where: str) -> dict[bytes, int]:
    """Parse the content of a ``.tiktoken`` file to tokens and their ranks.

    Parameters
    ----------
    content : str
    where : str
        The name of the file, with which messages begin.

    Raises
    ------
    DataError
        If a line is malformed, a token or a rank occurs twice, or one of the 256 single bytes is
        missing, without which some texts have no tokens.
    """
    if len(content) > MAX_BYTES:
        raise DataError(
            f"{where}: expected at most {MAX_BYTES} characters of ranks, got more; check that it "
            "is a .tiktoken file"
        )
    ranks: dict[bytes, int] = {}
    lines: dict[int, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        token, rank = _parse_line(line, f"{where}, line {number}")
        if token in ranks:
            raise DataError(
                f"{where}, line {number}: token {token!r} was already given in line "
                f"{lines[ranks[token]]}; keep one of the two"
            )
        if rank in lines:
            raise DataError(
                f"{where}, line {number}: rank {rank} was already given in line {lines[rank]}; "
                "each token needs a rank of its own"
            )
        ranks[token], lines[rank] = rank, number
    missing = [byte for byte in range(N_BYTES) if bytes([byte]) not in ranks]
    if missing:
        raise DataError(
            f"{where}: expected all 256 single bytes among the tokens, got {N_BYTES - len(missing)}"
            f" (missing: 0x{missing[0]:02x}); check that the file is whole"
        )
    return ranks


def _parse_line(line: str, where: str) -> tuple[bytes, int]:
    """Return the token and the rank of a line."""
    parts = line.split()
    shown = line if len(line) <= 40 else f"{line[:40]}..."
    if len(parts) != 2:
        raise DataError(
            f"{where}: expected a token in base64 and its rank, got {shown!r}; check that it is a "
            ".tiktoken file"
        )
    try:
        token = base64.b64decode(parts[0], validate=True)
    except (binascii.Error, ValueError):
        token = b""
    if not token:
        raise DataError(
            f"{where}: expected a token in base64, got {shown!r}; check that it is a .tiktoken file"
        )
    digits = parts[1]
    # int() takes more than digits, and long ones take it long
    known = digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_IDS))
    if not known or int(digits) >= MAX_IDS:
        raise DataError(
            f"{where}: expected a rank from 0 to {MAX_IDS - 1}, got {digits[:20]!r}; check that it "
            "is a .tiktoken file"
        )
    return token, int(digits)


def format_ranks(ranks: Mapping[bytes, int]) -> str:
    """Return ranks as the content of a ``.tiktoken`` file, in their order."""
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ordered)
