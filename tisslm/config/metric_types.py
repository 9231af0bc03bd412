"""Records that describe metrics, for everything that shows them or decides by them.

The built-in metrics themselves are in ``metrics``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tisslm.errors import ConfigError

__all__ = ["FORMATS", "LONGEST", "Family", "Figure", "Metric", "names_text"]

Better = Literal["", "min", "max"]

#: Ways to write a number that Python's format specifications lack; ``tracking.metrics`` has them.
FORMATS = frozenset({"count", "gflops", "ms", "norm", "rate", "short"})

_NAME = re.compile(r"[a-z][a-z0-9_]*(/[A-Za-z0-9_.-]+)+")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SPECIFICATION = re.compile(r",?(\.[0-9]{1,2})?[efg%]")  # no width: a file may ask for any

#: The most characters of any text of a metric.
LONGEST = 200


@dataclass(frozen=True)
class Figure:
    """A figure of a report; metrics with the same figure are its lines.

    Attributes
    ----------
    slug : str
        The name in files and links.
    title, about : str
        The heading, and a sentence below it.
    section : str
        The section of the report that it stands in.
    log : bool
        Whether the vertical axis is logarithmic.
    smooth : bool
        Whether a smoothed line is drawn over the values.
    level : str
        Key of ``[training]`` whose value is drawn as a horizontal line; "" for none.
    """

    slug: str
    title: str
    about: str = ""
    section: str = "Other metrics"
    log: bool = False
    smooth: bool = False
    level: str = ""

    def __post_init__(self) -> None:
        _check_kinds("figure", self.slug, self)
        if not _SLUG.fullmatch(self.slug):
            raise ConfigError(
                f"figure {self.slug!r}: slug: expected lower-case words with hyphens, such as "
                '"temperature"; choose another'
            )


@dataclass(frozen=True)
class Metric:
    """A number that a run reports, and how it is shown and compared.

    Attributes
    ----------
    name : str
        Group and name, such as "contrastive/temperature"; what sinks get and files hold.
    label : str
        The name in words, for figures.
    unit : str
        Written after the value on the live screen.
    format : str
        How the live screen writes a value: a template of ``str.format`` with one place for the
        number, which may also have one of ``FORMATS`` as its specification, such as "{:count}".
    line : str
        The same for the line of the console, with the name, such as "temp {:.3f}"; "" leaves the
        metric out there.
    better : {"", "min", "max"}
        Which values are better; "" if neither is. A metric with a direction may be the best metric.
    figure : Figure, optional
        Where a report draws it.
    short : str
        The label of the live screen; "" means ``label``.
    place : int
        Where it stands among the numbers of the live screen that may lack room, from 1; 0: not
        among them. The metrics of parts come after them, in any case.
    """

    name: str
    label: str
    unit: str = ""
    format: str = "{:short}"
    line: str = ""
    better: Better = ""
    figure: Figure | None = None
    short: str = ""
    place: int = 0

    def __post_init__(self) -> None:
        _check_kinds("metric", self.name, self)
        where = f"metric {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f'{where}: name: expected a group and a name such as "contrastive/temperature", '
                "got this; rename it"
            )
        if not self.label.strip():
            raise ConfigError(f"{where}: label: expected words for people, got none; give some")
        if self.better not in ("", "min", "max"):
            raise ConfigError(
                f'{where}: better: expected "min", "max" or "" (neither), got {self.better!r}'
            )
        if not _is_template(self.format) or (self.line and not _is_template(self.line)):
            wrong = "line" if _is_template(self.format) else "format"
            raise ConfigError(
                f'{where}: {wrong}: expected a template with one number, such as "{{:.3f}}", got '
                f"{getattr(self, wrong)!r}"
            )
        if self.figure is not None and not isinstance(self.figure, Figure):
            raise ConfigError(f"{where}: figure: expected a Figure, got {self.figure!r}")

    @property
    def group(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]

    @property
    def screen_label(self) -> str:
        """The label of the live screen."""
        return self.short or self.label

    @property
    def of_machine(self) -> bool:
        """True if it is about the machine: no decision about a model may depend on it."""
        return self.figure is not None and self.figure.section in ("Speed", "Memory")

    def plain(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def of_plain(cls, found: object) -> Metric:
        """Return the metric whose ``plain`` these values are.

        Raises
        ------
        ConfigError
            If the values do not describe a metric.
        """
        if not isinstance(found, Mapping) or not found.keys() <= {f.name for f in fields(cls)}:
            raise ConfigError("metric: expected the values of a declaration, got others")
        figure = found.get("figure")
        known = {field.name for field in fields(Figure)}
        try:
            if isinstance(figure, Mapping) and figure.keys() <= known:
                return cls(**{**found, "figure": Figure(**figure)})
            return cls(**found)
        except TypeError:
            raise ConfigError("metric: expected a name and a label, got less") from None


@dataclass(frozen=True)
class Family:
    """Metrics of one kind, one for each parameter or each place of the model.

    Their names are ``<group>/<where>`` or ``<group>/<where>/<statistic>``.

    Attributes
    ----------
    group : str
    by : {"parameter", "place"}
        What ``<where>`` is in the name.
    statistic : str
        A regular expression for the third part of the name; "" if there is none.
    slug, title, about : str
        Name, heading and description of the heat map; an empty title means that there is none.
    scale : {"log", "share", "linear", "signed"}
        How values become colours.
    """

    group: str
    by: Literal["parameter", "place"]
    statistic: str = ""
    slug: str = ""
    title: str = ""
    about: str = ""
    scale: Literal["log", "share", "linear", "signed"] = "linear"

    @property
    def pattern(self) -> str:
        """A regular expression for the names; its group is the parameter or the place."""
        return f"{self.group}/(.+)" + (f"/{self.statistic}" if self.statistic else "")


#: Types of the fields that are no strings, by their annotation.
_KINDS: Mapping[str, type] = {"bool": bool, "int": int}
_WORDS = {str: "a string of at most 200 characters", int: "an integer", bool: "True or False"}


def _check_kinds(what: str, name: object, record: Figure | Metric) -> None:
    """Make sure that every field is of the kind of its default, or a string, and not too long."""
    for field in fields(record):
        value, kind = getattr(record, field.name), _KINDS.get(str(field.type), str)
        if field.name == "figure":
            continue
        if type(value) is not kind or (isinstance(value, str) and len(value) > LONGEST):
            text = _WORDS[kind]
            raise ConfigError(f"{what} {name!r}: {field.name}: expected {text}, got {value!r:.60}")


def _is_template(text: str) -> bool:
    """Return True if a text has exactly one replacement field, and it takes a number."""
    try:
        places = [part for part in string.Formatter().parse(text) if part[1] is not None]
        if len(places) != 1 or places[0][1] or places[0][3]:
            return False
        specification = places[0][2] or ""
        return specification in FORMATS or bool(_SPECIFICATION.fullmatch(specification))
    except ValueError:
        return False


def names_text(names: Iterable[str]) -> str:
    """Return names as a message lists them: ``"a", "b" or "c"``."""
    *most, last = (f'"{name}"' for name in names)
    return f"{', '.join(most)} or {last}" if most else last
