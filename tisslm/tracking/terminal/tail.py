"""The records that a run adds to its ``metrics.jsonl``, as they come.

A file that is replaced or cut, as by a run that goes on from an earlier step, is read anew from its
beginning. A line is believed as little as any file: it is parsed within limits, and what is damaged
is counted and passed over.

What does not live here: writing the file (the sink ``jsonl``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, final

from tisslm.contracts.metric_values import Text
from tisslm.errors import DataError, TissLMError
from tisslm.system.safe_files import Refusal, RegularFile
from tisslm.system.strict_json import parse_json

__all__ = ["Record", "Tail"]


Record = tuple[int, Mapping[str, object]]

#: Bytes that a line may have, and that are read together.
LONGEST_LINE: Final = 64 * 2**20
_BLOCK = 2**20

_LAST_STEP = 2**53

#: Numbers that JSON has not, as the sink writes them.
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_REFUSAL = Refusal(DataError, "the metrics cannot be read", "mend the file or name another run")


@final
class Tail:
    """A reader that goes on where it was.

    Parameters
    ----------
    path : Path
        It need not exist yet.

    Attributes
    ----------
    damaged : int
        Whole lines of the file that are no records.
    anew : bool
        Whether the last call of ``read`` began at the beginning of a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self.anew = False
        self._offset = 0
        self._rest = bytearray()
        self._skips = False
        self._file = (0, 0)

    def read(self) -> Iterator[Record]:
        """Return the records that were added since the last call; none if there is no file.

        They are read as they are taken; ``anew`` is right at once.

        Raises
        ------
        DataError
            If it is no regular file, or cannot be read.
        """
        self.anew = False
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return iter(())
        except OSError as error:
            raise _REFUSAL(self.path, error.strerror) from None
        file = found.st_dev, found.st_ino
        if file != self._file or found.st_size < self._offset:
            self._file, self._offset, self._rest, self._skips = file, 0, bytearray(), False
            self.damaged, self.anew = 0, True
        return self._added()

    def _added(self) -> Iterator[Record]:
        """Yield the records behind what was read."""
        with RegularFile(self.path, _REFUSAL, follow=True) as source:
            while self._offset < source.size:
                block = bytearray(min(_BLOCK, source.size - self._offset))
                source.read_into(block, self._offset)
                self._offset += len(block)
                yield from self._records(block)

    def _records(self, block: bytearray) -> Iterator[Record]:
        """Yield the records of the lines that end in a block."""
        *lines, rest = block.split(b"\n")
        for line in lines:
            whole, self._rest = self._rest + line, bytearray()
            if self._skips or len(whole) > LONGEST_LINE:
                self._skips = False
                self.damaged += 1
                continue
            record = self._parsed(whole)
            if record is None:
                self.damaged += bool(whole.strip())
            else:
                yield record
        if len(self._rest) + len(rest) > LONGEST_LINE:
            self._rest, self._skips = bytearray(), True
        elif not self._skips:
            self._rest += rest

    def _parsed(self, line: bytearray) -> Record | None:
        try:
            found = parse_json(line, self.path, _REFUSAL)
        except TissLMError:
            return None
        step = found.pop("step", None)
        if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= _LAST_STEP:
            return None
        metrics = {name: _value(value) for name, value in found.items()}
        return step, {name: value for name, value in metrics.items() if value is not None}


def _value(value: object) -> float | Text | None:
    """Return a number or a text, None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        return _WORDS.get(value)
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return Text(value["text"])
    return None
