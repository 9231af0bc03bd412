"""The sections ``[log]``, ``[adapter]``, ``[ema]``, groups, and those of a part and its options.

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
    CountOrZero,
    Expects,
    Flag,
    NameList,
    PositiveNumber,
    check_plain,
    number,
    show,
)
from tisslm.errors import ConfigError

__all__ = [
    "TARGETS",
    "AdapterConfig",
    "EmaConfig",
    "GroupConfig",
    "Grouping",
    "LogSection",
    "Part",
    "make_part",
]

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


@final
class EmaConfig(Section):
    """The section ``[ema]``: a running mean of the weights, kept beside those that are trained.

    Averaging number t (from 0) makes ``average = d average + (1 - d) weights``, with
    ``d = min(decay, (1 + t) / (10 + t))``; the first one takes the weights as they are.

    Parameters
    ----------
    decay : float, default 0.999
        What is kept of the average, in (0, 1).
    every : int, default 1
        Updates from one averaging to the next.
    start : int, default 0
        Updates before the first.
    warmup : bool, default True
        Whether ``(1 + t) / (10 + t)`` limits it: the average then forgets where it began.
    """

    section: ClassVar[str] = "ema"

    decay: Annotated[
        float,
        BeforeValidator(number),
        Field(gt=0, lt=1),
        Expects("a number between 0 and 1, such as 0.999"),
    ] = 0.999
    every: Count = 1
    start: CountOrZero = 0
    warmup: Flag = True


_ScaleOrNone = Annotated[
    PositiveNumber | None,
    Expects("a finite number > 0", "parameters that are to stay as they are have freeze = true"),
]
_DecayOrNone = Annotated[
    Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)] | None,
    Expects("a finite number >= 0"),
]


@final
class GroupConfig(Section):
    """A table ``[[optimizer.groups]]``: how the parameters of some names are trained.

    Parameters
    ----------
    match : str or list of str
        Patterns of names, as of file names. A parameter is in the first group that matches it.
    lr_scale : float, optional
        Factor on the learning rate.
    weight_decay : float, optional
        In place of the optimizer's; it acts on all that match, biases and norms included.
    freeze : bool, default False
        Whether they are not trained.
    """

    section: ClassVar[str] = "group"

    match: NameList = Field(default_factory=list)
    lr_scale: _ScaleOrNone = None
    weight_decay: _DecayOrNone = None
    freeze: Flag = False

    def follow(self) -> None:
        """Raise ``ConfigError`` for a group without a pattern, or one frozen and trained."""
        if not self.match:
            raise ConfigError(
                'group.match: not set; name parameters by patterns, such as "blocks.0.*"'
            )
        for key in ("lr_scale", "weight_decay"):
            if self.freeze and getattr(self, key) is not None:
                raise ConfigError(
                    f"group.{key}: expected none beside freeze = true, got "
                    f"{show(getattr(self, key))}; what is frozen is not trained, leave one out"
                )


def _groups(value: object) -> object:
    """Turn the tables of a list into ``GroupConfig``; errors name the table by its number."""
    if not isinstance(value, list | tuple):
        return value
    found = []
    for place, table in enumerate(value):
        where = f"optimizer.groups[{place}]"
        if isinstance(table, GroupConfig):
            found.append(table)
            continue
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: expected a table with a match, got {show(table)}")
        try:
            found.append(GroupConfig(**{str(key): item for key, item in table.items()}))
        except ConfigError as error:
            message = str(error).replace("[group]", "[[optimizer.groups]]")
            raise ConfigError(message.replace("group.", f"{where}.")) from None
    return found


@final
class Grouping(Section):
    """The keys of ``[optimizer]`` that are no options of it: which parameters are trained how.

    Parameters
    ----------
    layer_decay : float, default 1.0
        The learning rate of each block is so much of that of the one above it.
    groups : list of GroupConfig, default []
    """

    section: ClassVar[str] = "optimizer"

    layer_decay: Annotated[
        float, BeforeValidator(number), Field(gt=0, le=1), Expects("a number above 0 and up to 1")
    ] = 1.0
    groups: Annotated[
        list[GroupConfig],
        BeforeValidator(_groups),
        Expects("a list of tables with a match each", "write [[optimizer.groups]]"),
    ] = Field(default_factory=list)

    def given(self) -> dict[str, Any]:
        """Return the keys that say something, as plain values."""
        return self.model_dump(exclude_defaults=True, exclude_none=True)


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
