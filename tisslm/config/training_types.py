"""The types of ``[training]``: what each key may be, and how a wrong value is refused."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tisslm.config.fields import Expects, number, whole
from tisslm.config.metric_types import names_text
from tisslm.config.metrics import BEST, RESERVED
from tisslm.errors import ConfigError
from tisslm.system.memory_limit import parse_size
from tisslm.system.time_limits import parse_duration

__all__ = [
    "BestMetric",
    "BestMode",
    "Checkpointing",
    "Duration",
    "FrozenPrecision",
    "LossScale",
    "MemoryLimit",
    "MinDelta",
    "OnNonfinite",
    "OnSaveError",
    "OnSinkError",
    "Precision",
    "Prompts",
    "SpikeAction",
    "SpikeWindow",
    "StartingScale",
]

#: Other trainers' names of each precision: PyTorch's and NumPy's data types, and the modes of
#: Hugging Face, Lightning and LitGPT, and Composer. Master weights are float32 here in each.
_PRECISIONS = {
    "fp32": "float32 f32 32 32-true",
    "bf16": "bfloat16 bf16-mixed bf16-true amp_bf16",
    "fp16": "float16 half f16 16 16-mixed 16-true amp_fp16",
    "auto": "",
}
_SPELLED = {word: name for name, text in _PRECISIONS.items() for word in [name, *text.split()]}
_EVERY = re.compile(r"every=([1-9][0-9]{0,5})")
#: Largest loss scale: beyond it, the sum of a few thousand losses leaves the range of float32.
LARGEST_SCALE = 2**24


def _precision(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return value
    return _SPELLED.get(str(value).lower(), value)


def _checkpointing(value: object) -> object:
    """Read a boolean, as other trainers write this option."""
    if value is True or value == "true":  # the second is what a shell gives
        return "full"
    return "none" if value is False or value == "false" else value


def _known_checkpointing(value: str) -> str:
    if value not in ("none", "full", "auto") and not _EVERY.fullmatch(value):
        raise ValueError("not a kind of checkpointing")
    return value


def _memory_limit(value: int | str) -> int | str:
    if value != "":
        try:
            parse_size(value)
        except ConfigError as error:
            raise ValueError("not a size") from error
    return value


def _power_of_two(value: int | str) -> int | str:
    if isinstance(value, int) and (
        isinstance(value, bool) or not 1 <= value <= LARGEST_SCALE or value & (value - 1)
    ):
        raise ValueError("not a power of two")
    return value


_POWER = "a power of two from 1 to 2^24"
Precision = Annotated[
    Literal["fp32", "bf16", "fp16", "auto"],
    BeforeValidator(_precision),
    Expects('"fp32", "bf16", "fp16" or "auto"'),
]
FrozenPrecision = Annotated[Literal["fp32", "bf16"], Expects('"fp32" or "bf16"')]
Checkpointing = Annotated[
    str,
    BeforeValidator(_checkpointing),
    AfterValidator(_known_checkpointing),
    Expects('"none", "full", "auto" or "every=N" with N >= 1'),
]
MemoryLimit = Annotated[
    int | str,
    BeforeValidator(whole),
    AfterValidator(_memory_limit),
    Expects(
        'a size such as "8GiB" or "500MB", or a number of bytes', '"" leaves it to the machine'
    ),
]
LossScale = Annotated[
    int | Literal["dynamic"],
    BeforeValidator(whole),
    AfterValidator(_power_of_two),
    Expects(f'"dynamic" or {_POWER}'),
]
StartingScale = Annotated[
    int, BeforeValidator(whole), AfterValidator(_power_of_two), Expects(_POWER)
]


def _metric(value: object) -> object:
    """Translate other trainers' names of metrics."""
    known = {"loss": "eval/loss", "val_loss": "eval/loss"}
    if isinstance(value, str) and "/" not in value:
        return known.get(value, value.replace("_", "/", 1))
    return value


def _known_metric(value: str) -> str:
    """Refuse a metric that cannot exist; a name in a group of its own may be a part's."""
    group, _, rest = value.partition("/")
    if value not in BEST and (not rest or group in RESERVED):
        raise ValueError("not a metric to go by")
    return value


BestMetric = Annotated[
    str, BeforeValidator(_metric), AfterValidator(_known_metric), Expects(names_text(BEST))
]
BestMode = Annotated[Literal["auto", "min", "max"], Expects('"auto", "min" or "max"')]
MinDelta = Annotated[
    float,
    BeforeValidator(number),
    Field(ge=0, allow_inf_nan=False),
    Expects("a finite number >= 0"),
]


def _duration(value: float | str) -> float | str:
    if value != "":
        try:
            parse_duration(value)
        except ConfigError as error:
            raise ValueError("not a duration") from error
    return value


Duration = Annotated[
    int | float | str,
    AfterValidator(_duration),
    Expects('a duration such as "3h30m" or "90s", or a number of seconds > 0', '"" sets no limit'),
]
OnSaveError = Annotated[Literal["continue", "stop"], Expects('"continue" or "stop"')]


def _prompts(value: object) -> object:
    """Read one string as one prompt, commas included."""
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, tuple) else value


Prompts = Annotated[
    list[str],
    BeforeValidator(_prompts),
    Field(min_length=1),
    Expects("a list of strings with at least one", "sample_every = 0 switches samples off"),
]
OnNonfinite = Annotated[Literal["skip", "stop"], Expects('"skip" or "stop"')]
SpikeAction = Annotated[
    Literal["off", "warn", "skip", "stop"], Expects('"off", "warn", "skip" or "stop"')
]
#: A median over fewer losses than this is noise.
SpikeWindow = Annotated[int, BeforeValidator(whole), Field(ge=10), Expects("an integer >= 10")]
OnSinkError = Annotated[Literal["disable", "fail"], Expects('"disable" or "fail"')]
