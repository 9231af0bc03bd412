"""Durations of a run in epochs, tokens or shares of it, where numbers of steps are asked for.

``training.save_every = "1ep"`` is moved to a section ``[durations]`` when settings are merged, and
becomes a number of steps when the data are read (``tisslm.workflows.build.durations``). A run
records both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple, final

from pydantic import AfterValidator

from tisslm.config.base import Section
from tisslm.config.fields import Expects, refused, show
from tisslm.config.sources import Tables

__all__ = ["KEYS", "UNITS", "DurationsConfig", "Span", "move_durations", "parse_span"]

#: The keys that take a duration, with the sections that they are in.
KEYS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "max_steps",
            "save_every",
            "keep_every",
            "validation_frequency",
            "sample_every",
            "monitor_steps",
            "logging_steps",
            "rank_check_steps",
        ),
        "training",
    ),
    **dict.fromkeys(("warmup_steps", "step_size", "decay_steps"), "scheduler"),
}

#: What a number may count, by its unit; the letters are those of Composer.
UNITS = {"ep": "epochs", "tok": "tokens", "%": "of the run", "ba": "steps"}

_SPAN = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z%]+)\s*")


class Span(NamedTuple):
    """A duration: how many of what."""

    amount: float
    unit: str


def parse_span(key: str, text: str) -> Span:
    """Read a number with a unit.

    Parameters
    ----------
    key : str
        Out of ``KEYS``.
    text : str

    Raises
    ------
    PydanticCustomError
        Of ``refused``, which becomes a ``ConfigError``.

    Examples
    --------
    >>> parse_span("max_steps", "1e9tok")
    Span(amount=1000000000.0, unit='tok')
    """
    where, found = f"{KEYS[key]}.{key}", _SPAN.fullmatch(text)
    known = ", ".join(f"{unit} ({words})" for unit, words in UNITS.items())
    if found is None or found[2] not in UNITS:
        raise refused(
            f"{where}: expected a number of steps, or one with a unit of {known}, got {show(text)}"
        )
    span = Span(float(found[1]), found[2])
    if not 0 < span.amount < math.inf:
        raise refused(f"{where}: expected a duration above 0, got {show(text)}")
    if span.unit == "ba" and span.amount != int(span.amount):
        raise refused(f"{where}: expected a whole number of steps, got {show(text)}")
    if span.unit == "%" and key == "max_steps":
        raise refused(
            f"{where}: expected epochs, tokens or steps, since shares are of it, got {show(text)}"
        )
    if span.unit == "%" and span.amount > 100:
        raise refused(f"{where}: expected at most 100%, which is the run, got {show(text)}")
    return span


def _check(key: str) -> AfterValidator:
    def check(value: str | None) -> str | None:
        if value is not None:
            parse_span(key, value)
        return value

    return AfterValidator(check)


_TEXT = Expects('a number with a unit, such as "2ep"')


@final
class DurationsConfig(Section):
    """The section ``[durations]``: what was said in other units than steps, by the key it is for.

    Parameters
    ----------
    max_steps, save_every, keep_every, validation_frequency, sample_every : str, optional
        Those of ``[training]``.
    monitor_steps, logging_steps, rank_check_steps : str, optional
        Those of ``[training]``.
    warmup_steps, step_size, decay_steps : str, optional
        Options of the scheduler.
    """

    section: ClassVar[str] = "durations"

    max_steps: Annotated[str | None, _check("max_steps"), _TEXT] = None
    save_every: Annotated[str | None, _check("save_every"), _TEXT] = None
    keep_every: Annotated[str | None, _check("keep_every"), _TEXT] = None
    validation_frequency: Annotated[str | None, _check("validation_frequency"), _TEXT] = None
    sample_every: Annotated[str | None, _check("sample_every"), _TEXT] = None
    monitor_steps: Annotated[str | None, _check("monitor_steps"), _TEXT] = None
    logging_steps: Annotated[str | None, _check("logging_steps"), _TEXT] = None
    rank_check_steps: Annotated[str | None, _check("rank_check_steps"), _TEXT] = None
    warmup_steps: Annotated[str | None, _check("warmup_steps"), _TEXT] = None
    step_size: Annotated[str | None, _check("step_size"), _TEXT] = None
    decay_steps: Annotated[str | None, _check("decay_steps"), _TEXT] = None

    def spans(self) -> dict[str, Span]:
        """Return what was said, ``max_steps`` first."""
        said = self.model_dump(exclude_none=True)
        return {key: parse_span(key, said[key]) for key in KEYS if key in said}


def move_durations(tables: Tables) -> None:
    """Move numbers with units to ``[durations]``, and read those without as integers.

    Other texts stay, and are refused where they are.
    """
    for key, section in KEYS.items():
        table = tables.values.get(section, {})
        value = table.get(key)
        if not isinstance(value, str):
            continue
        if re.fullmatch(r"[0-9]{1,18}", value):
            table[key] = int(value)
        elif _SPAN.fullmatch(value):
            tables.values.setdefault("durations", {})[key] = table.pop(key)
            origin = tables.origins.pop(f"{section}.{key}", "")
            tables.origins[f"durations.{key}"] = origin
            tables.origins[f"{section}.{key}"] = origin  # which messages name
