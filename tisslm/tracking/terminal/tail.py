"""The records that a run adds to its ``metrics.jsonl``, as they come.

A file that is replaced or cut, as by a run that goes on from an earlier step, is read anew from its
beginning. A line that is damaged is counted and passed over.

What does not live here: writing the file (the sink ``jsonl``), and its lines (``metric_lines``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

from tisslm.contracts.metric_values import Text
from tisslm.errors import DataError, TissLMError
from tisslm.system.safe_files import Refusal, RegularFile
from tisslm.system.strict_json import read_number
from tisslm.tracking.metric_lines import LineCutter, parse_record

__all__ = ["Record", "Tail"]


Record = tuple[int, Mapping[str, object]]

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
        True if the last call of ``read`` began at the beginning of a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self.anew = False
        self._offset = 0
        self._cutter = LineCutter()
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
            self._file, self._offset, self._cutter = file, 0, LineCutter()
            self.damaged, self.anew = 0, True
        return self._added()

    def _added(self) -> Iterator[Record]:
        """Yield the records behind what was read."""
        with RegularFile(self.path, _REFUSAL, follow=True) as source:
            for block in source.blocks(self._offset):
                self._offset += len(block)
                found = map(self._parsed, self._cutter.cut(block))
                yield from (record for record in found if record is not None)

    def _parsed(self, line: bytearray | None) -> Record | None:
        """Return what a whole line says; None, and it is counted, if it is damaged."""
        if line is not None and not line.strip():
            return None
        try:
            if line is not None:
                step, found = parse_record(line, self.path, _REFUSAL)
                metrics = {name: _value(value) for name, value in found.items()}
                return step, {name: value for name, value in metrics.items() if value is not None}
        except TissLMError:
            pass
        self.damaged += 1
        return None


def _value(value: object) -> float | Text | None:
    """Return a number or a text, None for anything else."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return Text(value["text"])
    return read_number(value)
