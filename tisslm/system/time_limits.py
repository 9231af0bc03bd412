"""Time limits of a process: what the user allows, and when its Slurm job ends.

A run acts on them in ``tisslm.training.interruption``.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tisslm.errors import ConfigError

__all__ = ["SLURM_SAFETY", "TimeLimit", "parse_duration", "time_limits"]

#: Seconds between the end of a run and the end of its Slurm job.
SLURM_SAFETY = 10.0

#: The most digits of a time in seconds since 1970: 11 digits reach to the year 5138.
_TIME = re.compile(r"[0-9]{1,11}")

_MOST = 2**63  # seconds; an integer of any length may be given in Python

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_duration(value: object, where: str = "training.max_time") -> float:
    """Read a duration in seconds.

    Parameters
    ----------
    value : int, float or str
        Seconds, or numbers with the units d, h, m, s in this order, such as "3h30m" or "90s".
    where : str
        Name of the setting, for messages.

    Raises
    ------
    ConfigError
        If the value is no such duration, or not positive.

    Examples
    --------
    >>> parse_duration("3h30m"), parse_duration("1.5s"), parse_duration(90)
    (12600.0, 1.5, 90.0)
    """
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < _MOST else math.inf
    elif isinstance(value, str):
        text = value.replace(" ", "")
        match = _DURATION.fullmatch(text)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        elif match and text:
            parts = (float(part or 0) for part in match.groups())
            seconds = sum(map(float.__mul__, parts, (86400.0, 3600.0, 60.0, 1.0)))
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(
            f"{where}: expected a duration such as '3h30m' or '90s', or a number of seconds > 0, "
            f"got {value!r:.200}; the units are d, h, m and s"
        )
    return seconds


@dataclass(frozen=True)
class TimeLimit:
    """A time by which the process must have ended.

    Attributes
    ----------
    end : float
        The time in seconds of ``time.monotonic``.
    words : str
        Where the limit comes from.
    safety : float
        Seconds that are kept free before the end.
    """

    end: float
    words: str
    safety: float = 0.0


def time_limits(
    max_time: float | str, environment: Mapping[str, str] | None = None
) -> list[TimeLimit]:
    """Return the time limits of a run that begins now.

    Parameters
    ----------
    max_time : float or str
        ``training.max_time``; "" is no limit.
    environment : mapping, optional
        Where ``SLURM_JOB_END_TIME`` (seconds since 1970) is looked up; that of the process if left
        out. A value that is past, or no number, is ignored.
    """
    environment = os.environ if environment is None else environment
    now, found = time.monotonic(), []
    if max_time != "":
        seconds = parse_duration(max_time)
        found.append(TimeLimit(now + seconds, f"training.max_time = {max_time}"))
    text = environment.get("SLURM_JOB_END_TIME", "")
    left = int(text) - time.time() if _TIME.fullmatch(text) else 0.0
    if left > 0:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(text)))
        found.append(TimeLimit(now + left, f"the Slurm job ends at {at}", SLURM_SAFETY))
    return found
