"""The sections ``[log]`` and ``[adapter]``, and those that hold a part's name and its options.

The part itself checks its options. ``[model]``, ``[data]`` and ``[training]`` have modules of
their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from tisslm.config.aliases import note, unknown_key
from tisslm.config.base import Section
from tisslm.config.fields import (
    Count,
    Expects,
    Flag,
    NameList,
    PositiveNumber,
    check_plain,
    number,
    show,
)
from tisslm.errors import ConfigError

__all__ = ["TARGETS", "AdapterConfig", "LogSection", "Part", "make_part"]

#: What adapters may be put beside: the maps of attention (``qkv``: the first three as one) and of
#: the MLP.
TARGETS = ("q", "k", "v", "qkv", "o", "gate", "up", "down")


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


def _targets(names: list[str]) -> list[str]:
    whole = "qkv" in names and {"q", "k", "v"} & set(names)
    if not names or len(set(names)) < len(names) or set(names) - set(TARGETS) or whole:
        raise ValueError("no targets")
    return names


_Targets = Annotated[
    NameList,
    AfterValidator(_targets),
    Expects(f"different names out of {', '.join(TARGETS)}, and qkv without q, k and v"),
]
_Rate = Annotated[
    float, BeforeValidator(number), Field(ge=0, lt=1), Expects("a number from 0 up to 1, without 1")
]
_Rank = Annotated[Count, Expects("an integer >= 1")]


@final
class AdapterConfig(Section):
    """The section ``[adapter]``: small matrices that are trained beside a model that is not.

    Parameters
    ----------
    kind : {"lora"}
    rank : int, default 8
        R: columns of what is added to each map.
    alpha : float, default 16.0
        What is added is scaled by alpha / R.
    targets : list of str, default ["q", "v"]
        Which maps get one.
    dropout : float, default 0.0
        Of what an adapter reads.
    rslora : bool, default False
        Whether the scale is alpha / sqrt(R), which suits large ranks.
    """

    section: ClassVar[str] = "adapter"

    kind: Annotated[Literal["lora"], Expects('"lora"')] = "lora"
    rank: _Rank = 8
    alpha: PositiveNumber = 16.0
    targets: _Targets = Field(default_factory=lambda: ["q", "v"])
    dropout: _Rate = 0.0
    rslora: Flag = False

    @property
    def scale(self) -> float:
        """s, the factor of what is added."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)
