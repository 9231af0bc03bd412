"""Types of settings, each with the words in which its error says what was expected."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from tisslm.errors import ConfigError

__all__ = [
    "Count",
    "CountOrZero",
    "Expects",
    "Flag",
    "Fraction",
    "NameList",
    "Path",
    "PositiveNumber",
    "Text",
    "check_plain",
    "config_error",
    "number",
    "refused",
    "show",
    "whole",
]

_SHOWN = 60
_MOST = 2**63  # counts are below it: nothing is counted beyond, and TOML has no larger integers


@dataclass(frozen=True)
class Expects:
    """What a setting must be, in the words of its error message.

    Attributes
    ----------
    what : str
        Follows "expected".
    advice : str
        What to do, at the end; may be empty.
    """

    what: str
    advice: str = ""


def refused(message: str) -> PydanticCustomError:
    """Return the error that a validator raises when its message is already a whole sentence."""
    return PydanticCustomError("refused", "{message}", {"message": message})


def whole(value: object) -> object:
    """Turn a NumPy integer, or a float with an integer value such as 1e4, into an ``int``."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    real = number(value)
    if isinstance(real, float) and abs(real) < _MOST and real.is_integer():
        return int(real)
    return value


def number(value: object) -> object:
    """Turn a real number of any type except bool into a ``float``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    try:
        return float(value)
    except OverflowError:
        return value


def _path(value: object) -> object:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a path has no null characters")
    return value


def _names(value: object) -> object:
    """Split "console,jsonl", which is how a list is written in a shell."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return list(value) if isinstance(value, tuple) else value


Count = Annotated[int, BeforeValidator(whole), Field(ge=1, lt=_MOST), Expects("an integer >= 1")]
CountOrZero = Annotated[
    int, BeforeValidator(whole), Field(ge=0, lt=_MOST), Expects("an integer >= 0")
]
PositiveNumber = Annotated[
    float,
    BeforeValidator(number),
    Field(gt=0, allow_inf_nan=False),
    Expects("a finite number > 0"),
]
Fraction = Annotated[
    float,
    BeforeValidator(number),
    Field(ge=0, lt=1, allow_inf_nan=False),
    Expects("a number in [0, 1)"),
]
Flag = Annotated[bool, Expects("true or false")]
Text = Annotated[str, Expects("a string")]
Path = Annotated[str, BeforeValidator(_path), Expects("a path")]
NameList = Annotated[list[str], BeforeValidator(_names), Expects("a list of names")]


def show(value: object) -> str:
    """Return a value as a configuration writes it, shortened to 60 characters.

    Examples
    --------
    >>> show(True), show("a"), show([1, "b"])
    ('true', '"a"', '[1, "b"]')
    """
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, list):
        text = f"[{', '.join(map(show, value))}]"
    elif isinstance(value, dict):
        text = "a table"
    elif value is None:
        text = "nothing"
    elif isinstance(value, int) and value.bit_length() > 4 * _SHOWN:
        text = f"an integer of {value.bit_length()} bits"
    else:
        text = str(value) if isinstance(value, Real) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def check_plain(where: str, value: object) -> None:
    """Raise ``ConfigError`` unless a value is a string, number, boolean, list or table."""
    if isinstance(value, str | int | float):
        return
    if isinstance(value, list):
        for item in value:
            check_plain(where, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_plain(f"{where}.{key}", item)
    else:
        raise ConfigError(
            f"{where}: expected a string, number, boolean, list or table, got {show(value)}; "
            "put it in quotes"
        )


def config_error(section: str, cls: type[BaseModel], error: ValidationError) -> ConfigError:
    """Turn a validation error into one sentence about its first setting.

    Parameters
    ----------
    section : str
    cls : type
        The model that was validated; its fields carry ``Expects``.
    error : ValidationError
    """
    first = error.errors(include_url=False)[0]
    if first["type"] == "refused":
        return ConfigError(first["msg"])
    key = str(first["loc"][0])
    expects = next(
        item for item in reversed(cls.model_fields[key].metadata) if isinstance(item, Expects)
    )
    advice = f"; {expects.advice}" if expects.advice else ""
    got = show(first["input"])
    return ConfigError(f"{section}.{key}: expected {expects.what}, got {got}{advice}")
