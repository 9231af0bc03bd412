"""The sections of a run configuration other than ``[training]`` and ``[data]``.

``[model]`` and ``[log]`` have typed keys. ``[tokenizer]``, ``[optimizer]``,
``[scheduler]`` and ``[loss]`` hold a part's name and its options, which the part itself checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, final

from pydantic import ConfigDict, Field

from tisslm.config.aliases import note, unknown_key
from tisslm.config.base import Section
from tisslm.config.fields import (
    Count,
    CountOrZero,
    Expects,
    Flag,
    Fraction,
    NameList,
    PositiveNumber,
    Text,
    show,
)
from tisslm.errors import ConfigError

__all__ = ["FAMILY", "LogSection", "ModelSection", "Part", "check_plain", "make_part"]

#: The default family of models.
FAMILY = "gpt2"

_Size = Annotated[Count | None, Expects("an integer >= 1")]
_SizeOrZero = Annotated[CountOrZero | None, Expects("an integer >= 0", "0 derives it")]


class Part(NamedTuple):
    """A part by its registered name, with the options that it is built with.

    This is the pair that ``Trainer`` takes for an optimizer, scheduler, loss, sink or monitor.
    """

    name: str
    options: dict[str, Any]


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
class ModelSection(Section):
    """The section ``[model]``: a preset, its sizes, or a preset with some values changed.

    Every key is optional here, and ``given`` returns those that were set; what they mean is
    documented at ``TransformerConfig``. Another family has keys of its own beside these.
    """

    model_config = ConfigDict(extra="allow")
    section: ClassVar[str] = "model"
    #: Without a preset, all of these are needed.
    sizes: ClassVar[tuple[str, ...]] = ("n_layer", "n_head", "n_embd", "seq_len")

    family: Annotated[str | None, Field(min_length=1), Expects("a family's name")] = None
    preset: Annotated[str | None, Field(min_length=1), Expects("a preset's name")] = None
    n_layer: _Size = None
    n_head: _Size = None
    n_kv_head: _SizeOrZero = None
    n_embd: _Size = None
    n_hidden: _SizeOrZero = None
    seq_len: _Size = None
    vocab_size: _Size = None
    dropout: Annotated[Fraction | None, Expects("a number in [0, 1)")] = None
    bias: Annotated[Flag | None, Expects("true or false")] = None
    activation: Annotated[Text | None, Expects("a string")] = None
    norm: Annotated[Text | None, Expects("a string")] = None
    norm_eps: Annotated[PositiveNumber | None, Expects("a finite number > 0")] = None
    tie_embeddings: Annotated[Flag | None, Expects("true or false")] = None

    @classmethod
    def is_open(cls, values: Mapping[str, Any]) -> bool:
        """Return True for another family than the built-in one, which checks its keys itself."""
        return bool(values.get("family", FAMILY) != FAMILY)

    def given(self) -> dict[str, Any]:
        """Return the keys that were set.

        Raises
        ------
        ConfigError
            If there is no preset and only some of the sizes.
        """
        found = self.model_dump(exclude_none=True)
        if self.is_open(found):
            for key, value in found.items():
                check_plain(f"model.{key}", value)
            return found
        missing = [key for key in self.sizes if key not in found]
        if "preset" not in found and missing:
            raise ConfigError(
                f"model.{missing[0]}: not set; give model.preset, or all of {', '.join(self.sizes)}"
            )
        return found


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
