"""Putting settings of several sources together: default < file < environment < command line.

What does not live here: reading the sources (``loading``), and what a valid value is (``run``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tisslm.config.aliases import note, read_flag, rename
from tisslm.config.data import DataSection
from tisslm.config.fields import show
from tisslm.config.loading import Setting
from tisslm.config.sections import FAMILY, LogSection, ModelSection
from tisslm.config.training import TrainingConfig
from tisslm.errors import ConfigError

__all__ = ["DEFAULT_PARTS", "SECTION_KEYS", "Tables", "merge"]

#: The sections that name a part, and the part when they name none.
DEFAULT_PARTS = {
    "tokenizer": "char",
    "optimizer": "adamw",
    "scheduler": "warmup_cosine",
    "loss": "cross_entropy",
}

#: Every section in the order of the resolved configuration, with the keys that it always has.
SECTION_KEYS: dict[str, tuple[str, ...]] = {
    "model": tuple(ModelSection.model_fields),
    "data": tuple(DataSection.model_fields),
    **dict.fromkeys(DEFAULT_PARTS, ("name",)),
    "training": tuple(TrainingConfig.model_fields),
    "log": tuple(LogSection.model_fields),
}

#: Sections whose other keys belong to what this one says: another value starts them afresh.
_HEADS = (
    ("model", "family", FAMILY),
    ("model", "preset", None),
    *((section, "name", name) for section, name in DEFAULT_PARTS.items()),
)

_STRINGS = frozenset(
    {f"{section}.name" for section in DEFAULT_PARTS}
    | {"model.family", "model.preset", "model.activation"}
    | {
        f"{cls.section}.{key}"
        for cls in (TrainingConfig, DataSection)
        for key, info in cls.model_fields.items()
        if info.annotation is str
    }
)


@dataclass
class Tables:
    """Nested tables of values, and where each came from.

    Attributes
    ----------
    values : dict
        By section.
    origins : dict of str to str
        By ``"section.key"``.
    """

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)


def merge(layers: Iterable[Sequence[Setting]]) -> Tables:
    """Put layers together; a later one wins, key by key.

    A layer that names another part (or another family or preset of models) than the layers below
    it starts that section afresh, because the options there belong to the part that they were
    given for; a ``ConfigNote`` names what was left out. A layer that gives ``training.epochs``
    and no ``max_steps`` takes back that of the layers below, with a note: it would win over the
    epochs that were asked for. ``training.learning_rate`` may be spelled
    ``optimizer.learning_rate`` or ``optimizer.lr``.

    Parameters
    ----------
    layers : iterable of sequences of Setting
        From the weakest to the strongest.

    Raises
    ------
    ConfigError
        If a setting is outside of a section, or one layer gives a key by two spellings with
        different values.
    """
    tables = Tables()
    for layer in layers:
        settings = _canonical(layer)
        for section, head, default in _HEADS:
            _start_afresh(tables, settings, section, head, default)
        _let_epochs_count(tables, settings)
        for setting in settings:
            _put(tables, setting)
    return tables


def _canonical(layer: Sequence[Setting]) -> list[Setting]:
    """Return the settings by the names that they have here; the last of each spelling."""
    found: dict[tuple[str, ...], tuple[tuple[str, ...], Setting]] = {}
    for given in layer:
        _check_place(given)
        read = read_flag(given.path, given.value, _set_by(given))
        if read is None:
            continue
        path, value = rename(read[0]), read[1]
        setting = replace(given, path=path, value=value)
        dotted = ".".join(path)
        if given.text is not None and dotted in _STRINGS and not isinstance(given.value, str):
            setting = replace(setting, value=given.text)
        spelled, other = found.get(path, (given.path, setting))
        if spelled != given.path and other.value != setting.value:
            raise ConfigError(
                f"{dotted}: given as {'.'.join(spelled)} = {show(other.value)} and as "
                f"{'.'.join(given.path)} = {show(setting.value)}; keep one{_set_by(given)}"
            )
        found[path] = (given.path, setting)
    return [setting for _, setting in found.values()]


def _check_place(setting: Setting) -> None:
    """Raise unless a setting is in a section, and its number one that TOML must hold."""
    if len(setting.path) == 1 and setting.value != {}:
        key = setting.path[0]
        homes = [f"{name}.{key}" for name, keys in SECTION_KEYS.items() if key in keys]
        if key in DEFAULT_PARTS:
            homes = [f"{key}.name"]
        advice = f"did you mean {' or '.join(homes)}?" if homes else "put it below a [section]"
        raise ConfigError(f"{key}: expected a section and a key; {advice}{_set_by(setting)}")
    value = setting.value
    if isinstance(value, int) and value.bit_length() > 64:
        raise ConfigError(
            f"{'.'.join(setting.path)}: expected an integer of at most 64 bits, got "
            f"{show(value)}{_set_by(setting)}"
        )


def _set_by(setting: Setting) -> str:
    return f" (set by {setting.origin})" if setting.origin else ""


def _start_afresh(
    tables: Tables, settings: list[Setting], section: str, head: str, default: str | None
) -> None:
    """Drop the keys of a section if these settings give another value to its head."""
    new = [s.value for s in settings if s.path == (section, head)]
    table = tables.values.get(section, {})
    current = table.get(head, default)
    dropped = [key for key in table if key not in (head, "family")]
    if not new or new[-1] == current or not dropped:
        return
    note(
        f"{section}.{head} = {show(new[-1])} starts [{section}] afresh: {', '.join(dropped)} of "
        "the weaker sources left out",
        stacklevel=5,
    )
    for key in dropped:
        del table[key]
        tables.origins.pop(f"{section}.{key}", None)


def _let_epochs_count(tables: Tables, settings: list[Setting]) -> None:
    """Drop the weaker sources' ``max_steps`` if these settings give epochs and no steps."""
    epochs = [s.value for s in settings if s.path == ("training", "epochs")]
    table = tables.values.get("training", {})
    weaker = table.get("max_steps", -1)
    if not epochs or weaker == -1 or any(s.path == ("training", "max_steps") for s in settings):
        return
    note(
        f"training.epochs = {show(epochs[-1])} counts: training.max_steps = {show(weaker)} of "
        "the weaker sources left out",
        stacklevel=5,
    )
    del table["max_steps"]
    tables.origins.pop("training.max_steps", None)


def _put(tables: Tables, setting: Setting) -> None:
    """Set one value, making the tables on its way."""
    table: dict[str, Any] = tables.values
    for key in setting.path[:-1]:
        inner = table.get(key)
        if not isinstance(inner, dict):
            inner = table[key] = {}
        table = inner
    last = setting.path[-1]
    if setting.value != {} or not isinstance(table.get(last), dict):
        table[last] = copy.deepcopy(setting.value)
    tables.origins[".".join(setting.path[:2])] = setting.origin
