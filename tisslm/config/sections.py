"""The section ``[log]``, and those that hold a part's name and its options.

The part itself checks its options. ``[model]``, ``[data]`` and ``[training]`` have modules of
their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, final

from pydantic import ConfigDict, Field

from tisslm.config.aliases import note, unknown_key
from tisslm.config.base import Section
from tisslm.config.fields import NameList, check_plain, show
from tisslm.errors import ConfigError

__all__ = ["LogSection", "Part", "make_part"]


class Part(NamedTuple):
    """A part by its registered name, with the options that it is built with.

    This is the pair that ``Trainer`` takes for an optimizer, scheduler, loss, sink or monitor.
    """

    name: str
    options: dict[str, Any]


def make_part(section: str, table: Mapping[str, Any], default: str) -> Part:
    """Return the part that a section names; all keys but ``name`` are its options.

    Parameters
    ----------
    section : str
    table : mapping
    default : str
        The name if the section gives none.
    """
    options = dict(table)
    name = options.pop("name", default)
    if not isinstance(name, str) or not name:
        raise ConfigError(
            f'{section}.name: expected a name such as "{default}", got {show(name)}; '
            "see tisslm plugins for the names"
        )
    for key, value in options.items():
        check_plain(f"{section}.{key}", value)
    return Part(name, options)


@final
class LogSection(Section):
    """The section ``[log]``: where metrics go, and what is measured beside them.

    Parameters
    ----------
    sinks : list of str, default ["console", "jsonl"]
    monitors : list of str, default []
    **tables
        ``[log.<name>]`` has the options of the sink or monitor of that name.
    """

    model_config = ConfigDict(extra="allow")
    section: ClassVar[str] = "log"

    sinks: NameList = Field(default_factory=lambda: ["console", "jsonl"])
    monitors: NameList = Field(default_factory=list)

    @classmethod
    def is_open(cls, values: Mapping[str, Any]) -> bool:
        """Return True: the names of the tables are checked when they are used."""
        return True

    def parts(self, names: Iterable[str]) -> list[Part]:
        """Return the sinks or monitors of these names with their options."""
        tables = self.model_extra or {}
        return [Part(name, dict(tables.get(name, {}))) for name in names]

    def check(self) -> None:
        """Raise ``ConfigError`` for a name listed twice or a key that is no table.

        A table for a part that is not listed gives a ``ConfigNote`` only, because the command line
        may have removed the part.
        """
        for key, names in (("sinks", self.sinks), ("monitors", self.monitors)):
            for name in names:
                if names.count(name) > 1:
                    raise ConfigError(
                        f"log.{key}: expected different names, got {show(name)} twice; keep one"
                    )
        for key, value in (self.model_extra or {}).items():
            if not isinstance(value, dict):
                raise unknown_key("log", key, type(self).model_fields, {})
            check_plain(f"log.{key}", value)
            if key not in (*self.sinks, *self.monitors):
                note(f"[log.{key}] has no effect: log.sinks and log.monitors do not name it")
