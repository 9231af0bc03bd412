"""The lines of ``metrics.jsonl``, for whoever reads such a file: whole lines, within limits.

A file may be from another version, cut, mixed up, or still be written. No line takes more memory
than its limit, and no damaged line costs the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any

from tisslm.system.safe_files import Refusal, show
from tisslm.system.strict_json import parse_json

__all__ = ["LONGEST_LINE", "LineCutter", "parse_record"]

LONGEST_LINE = 2**24  # bytes; a line of a thousand histograms has 2 MB

_STEPS = range(2**53)


class LineCutter:
    """Cuts a file into its lines, block by block.

    Attributes
    ----------
    rest : bytearray
        The bytes behind the last end of a line: a line that is still being written, or was cut.
    too_long : bool
        True if that line is longer than a line may be; then ``rest`` is empty.
    """

    def __init__(self) -> None:
        self.rest = bytearray()
        self.too_long = False

    def lines(self, blocks: Iterable[bytes | bytearray]) -> Iterator[bytearray | None]:
        """Yield the lines that end in the next blocks, as ``cut`` does."""
        for block in blocks:
            yield from self.cut(block)

    def cut(self, block: bytes | bytearray) -> Iterator[bytearray | None]:
        """Yield the lines that end in the next block, without their ends; None for a long one."""
        *ended, rest = block.split(b"\n")
        for part in ended:
            line = None if self._exceeds(part) else self.rest + part
            self.rest, self.too_long = bytearray(), False
            yield line
        if self._exceeds(rest):
            self.rest, self.too_long = bytearray(), True
        else:
            self.rest += rest

    def _exceeds(self, part: bytes | bytearray) -> bool:
        return self.too_long or len(self.rest) + len(part) > LONGEST_LINE


def parse_record(
    line: bytes | bytearray, where: str | PathLike[str], refusal: Refusal
) -> tuple[int, dict[str, Any]]:
    """Return the step of a line and its metrics, as JSON has them (``read_number``).

    Parameters
    ----------
    line : bytes
    where : str or path
        File and line, for messages.
    refusal : Refusal

    Raises
    ------
    TissLMError
        The refusal's, if the line is no JSON object within limits, or has no step.
    """
    record = parse_json(line, where, refusal)
    step = record.pop("step", None)
    if type(step) is not int or step not in _STEPS:
        raise refusal(where, f"expected a step, an integer, got {show(step)}")
    return step, record
