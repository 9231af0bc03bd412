"""Reading settings from a TOML file, the environment and the command line.

Each source becomes a list of ``Setting``, one for each value, with the words that name its
origin in messages. Which source wins is decided in ``precedence``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tisslm.config.fields import show
from tisslm.errors import ConfigError
from tisslm.system import strict_toml

__all__ = [
    "DEFAULT_RUN",
    "ENVIRONMENT_PREFIX",
    "Setting",
    "Tables",
    "environment_settings",
    "file_settings",
    "override_settings",
    "parse_toml",
    "table_settings",
]

#: ``TISSLM_<SECTION>__<KEY>``; other variables that begin so are not settings.
ENVIRONMENT_PREFIX = "TISSLM_"

#: The origin of the settings that come with TissLM, and were not asked for.
DEFAULT_RUN = "the default configuration"

_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


@dataclass(frozen=True)
class Setting:
    """One value, and where it came from.

    Attributes
    ----------
    path : tuple of str
        Section, key, and for nested tables more keys.
    value : object
        The value as TOML reads it.
    origin : str
        What messages call the source, such as ``"run.toml"`` or ``"--set training.seed"``; empty
        for a mapping.
    text : str or None
        The words of the shell that the value was read from, for settings that are strings.
    """

    path: tuple[str, ...]
    value: Any
    origin: str = ""
    text: str | None = None


@dataclass
class Tables:
    """Nested tables of settings, with the origin of each.

    Attributes
    ----------
    values : dict
        A table for each section.
    origins : dict of str to str
        What messages call the source of each ``"section.key"``.
    """

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)


def parse_toml(text: str, origin: str) -> dict[str, Any]:
    """Read a TOML document.

    Parameters
    ----------
    text : str
    origin : str
        What to call it in messages.

    Raises
    ------
    ConfigError
        If it is not valid TOML; the message has line and column.
    """
    try:
        return strict_toml.parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.fullmatch(str(error))
        reason, line, column = place.groups() if place else (str(error), None, None)
        if line is None:
            lines = text.split("\n")
            line, column = str(len(lines)), str(len(lines[-1]) + 1)
        raise ConfigError(
            f"{origin}, line {line}, column {column}: not valid TOML: "
            f"{reason[:1].lower()}{reason[1:]}; mend that line"
        ) from None
    except ValueError:
        raise ConfigError(
            f"{origin}: not usable TOML: the text, a number or a key is too long, or lists are "
            "nested too deep; shorten it"
        ) from None


def file_settings(path: Path) -> list[Setting]:
    """Read the settings of a TOML file in UTF-8.

    Raises
    ------
    ConfigError
        If it is missing, cannot be read, or is not valid UTF-8 or TOML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(strict_toml.LARGEST_TOML + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such configuration file; give the path of a TOML file, or none "
            "for the default run"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: the configuration cannot be read ({error.strerror}); give the path of a "
            "readable TOML file"
        ) from None
    if len(data) > strict_toml.LARGEST_TOML:
        raise ConfigError(
            f"{path}: expected a configuration of at most {strict_toml.LARGEST_TOML} bytes, got "
            "more; give the path of a TOML file"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}, line {line}: expected text in UTF-8, got the byte "
            f"0x{error.object[error.start]:02x}; save the file as UTF-8"
        ) from None
    return table_settings(parse_toml(text, str(path)), str(path))


def table_settings(table: Mapping[str, Any], origin: str = "") -> list[Setting]:
    """Return one setting for each value of nested tables; an empty table counts as a value."""
    return [Setting(path, value, origin) for path, value in _leaves(table, ())]


def _leaves(
    table: Mapping[str, Any], path: tuple[str, ...]
) -> Iterable[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), dict(value) if isinstance(value, Mapping) else value


def environment_settings(environment: Mapping[str, str]) -> list[Setting]:
    """Return the settings among environment variables, sorted by name.

    ``TISSLM_TRAINING__MAX_STEPS=100`` is ``training.max_steps = 100``. Variables without two
    underscores in a row (``TISSLM_ISA``) are something else.
    """
    found = []
    for name in sorted(environment):
        path = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        if name.startswith(ENVIRONMENT_PREFIX) and len(path) > 1:
            text = environment[name]
            found.append(Setting(path, _shell_value(text), f"the variable {name}", text))
    return found


def override_settings(overrides: Iterable[str]) -> list[Setting]:
    """Return the settings of the command line, in order.

    Parameters
    ----------
    overrides : iterable of str
        Texts such as ``"training.max_steps=100"``. The value is read as TOML; what is not valid
        TOML is a string.

    Raises
    ------
    ConfigError
        If one is not of the form ``section.key=value``.
    """
    found = []
    for override in overrides:
        name, equals, text = override.partition("=")
        path = tuple(name.strip().replace("-", "_").split("."))
        if not equals or not all(path):
            raise ConfigError(
                f"--set {show(override)}: expected section.key=value, such as "
                "training.max_steps=100"
            )
        text = text.strip()
        found.append(Setting(path, _shell_value(text), f"--set {name.strip()}", text))
    return found


def _shell_value(text: str) -> Any:
    """Read a TOML value; a date, or text that is no TOML value, is kept as text."""
    try:
        value = strict_toml.parse_value(text)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float | list | dict) else text
