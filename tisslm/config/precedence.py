"""Merging the settings of several sources: default < file < environment < command line.

Sources are read in ``sources``; whether a value is valid is checked in ``run``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tisslm.config.aliases import read_flag, rename
from tisslm.config.data import DataSection
from tisslm.config.derived import derive
from tisslm.config.durations import DurationsConfig, move_durations
from tisslm.config.fields import show
from tisslm.config.giving_way import drop_rivals, start_afresh
from tisslm.config.model import FAMILY, FROM, ModelSection, TransformerConfig, family_of
from tisslm.config.sections import AdapterConfig, EmaConfig, Grouping, LogSection
from tisslm.config.sources import Setting, Tables
from tisslm.config.training import TrainingConfig
from tisslm.config.translation import translated
from tisslm.errors import ConfigError

__all__ = ["DEFAULT_PARTS", "HOMES", "SECTION_KEYS", "merge"]

#: The sections that name a part, with the default part.
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
    "optimizer": ("name", *Grouping.model_fields),
    "training": tuple(TrainingConfig.model_fields),
    "durations": tuple(DurationsConfig.model_fields),
    "adapter": tuple(AdapterConfig.model_fields),
    "ema": tuple(EmaConfig.model_fields),
    "log": tuple(LogSection.model_fields),
}

#: The sections that a key out of place may belong to; [durations] has keys of others.
HOMES = {name: keys for name, keys in SECTION_KEYS.items() if name != "durations"}

#: For each section: the key to whose value the other keys belong, and its default. Another value
#: drops the other keys.
_HEADS: tuple[tuple[str, str, str | None], ...] = (
    ("model", "family", FAMILY),
    ("model", "preset", None),
    ("model", FROM, None),
    ("data", "name", "text"),
    *((section, "name", name) for section, name in DEFAULT_PARTS.items()),
)

_STRINGS = frozenset(
    {f"{section}.name" for section in DEFAULT_PARTS}
    | {"model.preset", f"model.{FROM}"}
    | {
        f"{section}.{key}"
        for section, cls in (
            ("model", TransformerConfig),
            ("training", TrainingConfig),
            ("data", DataSection),
        )
        for key, info in cls.model_fields.items()
        if info.annotation is str
    }
)


def merge(layers: Iterable[Sequence[Setting]]) -> Tables:
    """Merge layers of settings; key by key, the later layer wins.

    A layer that names another part (or another family or preset of models) than the layers below
    it starts that section afresh, because the options there belong to the part that they were
    given for; a ``ConfigNote`` names what was left out. A layer that gives one of two rivals
    (``RIVALS``) takes the other back from the layers below, with a note: ``training.epochs``
    counts, although ``training.max_steps`` would win over it. ``training.learning_rate`` may be
    spelled ``optimizer.learning_rate`` or ``optimizer.lr``.

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
    for layer in (part for given in layers for part in translated(given)):
        settings = _canonical(layer)
        for section, head, silent in _HEADS:
            given = tables.values.get(section, {})
            is_family = (section, head) == ("model", "family")  # a preset says it, too
            current = family_of(given) if is_family else given.get(head, silent)
            start_afresh(tables, settings, section, head, current)
        drop_rivals(tables, settings)
        for setting in settings:
            _put(tables, setting)
    derive(tables)
    move_durations(tables)
    return tables


def _canonical(layer: Sequence[Setting]) -> list[Setting]:
    """Return the settings under our names; of several spellings of one key, the last one."""
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
    """Raise unless a setting is in a section, and its number is one that TOML can hold."""
    if len(setting.path) == 1 and setting.value != {}:
        key = setting.path[0]
        homes = [f"{name}.{key}" for name, keys in HOMES.items() if key in keys]
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


def _put(tables: Tables, setting: Setting) -> None:
    """Set one value, creating the tables that lead to it."""
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
