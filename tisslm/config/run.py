"""``RunConfig``: all settings of a run, merged from all sources and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, final

from tisslm.config.aliases import unknown_key
from tisslm.config.base import Section
from tisslm.config.data import DataSection
from tisslm.config.durations import DurationsConfig
from tisslm.config.model import FROM, ModelSection
from tisslm.config.precedence import DEFAULT_PARTS, HOMES, SECTION_KEYS, merge
from tisslm.config.sections import (
    AdapterConfig,
    EmaConfig,
    Grouping,
    LogSection,
    Part,
    make_part,
)
from tisslm.config.sources import (
    DEFAULT_RUN,
    Setting,
    Tables,
    environment_settings,
    file_settings,
    override_settings,
    parse_toml,
    table_settings,
)
from tisslm.config.training import TrainingConfig
from tisslm.errors import ConfigError
from tisslm.errors.suggestions import nearest

__all__ = ["RunConfig"]


#: Sections with a fixed list of keys, unless they name a part that has keys of its own.
_CLOSED: Mapping[str, type[Section]] = {
    "model": ModelSection,
    "data": DataSection,
    "training": TrainingConfig,
    "durations": DurationsConfig,
    "adapter": AdapterConfig,
    "ema": EmaConfig,
}


@final
@dataclass(frozen=True)
class RunConfig:
    """The configuration of a whole run: the sections of a TOML file, checked.

    Attributes
    ----------
    model : dict
        The keys of ``TransformerConfig`` that were given, ``preset`` among them or all of
        ``n_layer, n_head, n_embd, seq_len``; the preset "char-tiny" if none was. Or ``from``, the
        path of a model to start from. For a family that is not built in, the keys of that family.
    data : DataSection
    tokenizer, optimizer, scheduler, loss : Part
        Pairs of name and options. The learning rate is not among the options.
    ema : EmaConfig or None
        Of a run that averages its weights.
    grouping : Grouping
        The keys of ``[optimizer]`` that say which parameters are trained how.
    training : TrainingConfig
    log : LogSection
    adapter : AdapterConfig or None
        Of a run that trains adapters beside a model; None where there is no such section.
    durations : DurationsConfig or None
        What was said in other units than steps; None where nothing was. The numbers of steps are
        defaults until the data are read.
    said : frozenset of str
        The settings (``"training.max_steps"``) that were asked for in a file, the environment or
        the command line. All others are defaults, and may be adapted to these (``changed``).
    """

    model: dict[str, Any]
    data: DataSection
    tokenizer: Part
    optimizer: Part
    scheduler: Part
    loss: Part
    training: TrainingConfig
    log: LogSection
    adapter: AdapterConfig | None = None
    ema: EmaConfig | None = None
    grouping: Grouping = field(default_factory=Grouping)
    durations: DurationsConfig | None = None
    said: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        overrides: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> RunConfig:
        """Read a configuration: default < file < environment < command line.

        Parameters
        ----------
        path : path, optional
            A TOML file; without one, the default run that comes with TissLM.
        overrides : iterable of str
            ``"section.key=value"``, as after ``--set``.
        env : mapping, optional
            The environment, ``os.environ`` if left out: ``TISSLM_<SECTION>__<KEY>``.

        Raises
        ------
        ConfigError
            If a file cannot be read, or anything in it or in the others is wrong.
        """
        bottom = default_settings() if path is None else file_settings(Path(path))
        variables = environment_settings(os.environ if env is None else env)
        return cls._from_tables(merge([bottom, variables, override_settings(overrides)]))

    @classmethod
    def from_mapping(cls, tables: Mapping[str, Any]) -> RunConfig:
        """Build a configuration from one table per section; environment variables are not read."""
        return cls._from_tables(merge([table_settings(tables)]))

    @classmethod
    def _from_tables(cls, tables: Tables) -> RunConfig:
        try:
            _check_keys(tables.values)
            said = (key for key, origin in tables.origins.items() if origin != DEFAULT_RUN)
            return cls._build(tables.values, frozenset(said))
        except ConfigError as error:
            where = str(error).partition(": ")[0].split(".")
            origin = tables.origins.get(".".join(where[:2]).partition("[")[0])
            raise ConfigError(f"{error} (set by {origin})" if origin else str(error)) from None

    @classmethod
    def _build(cls, values: Mapping[str, Mapping[str, Any]], said: frozenset[str]) -> RunConfig:
        data = DataSection(**values.get("data", {}))
        data.check()
        model = ModelSection(**values.get("model", {}))
        given = model.model_dump(exclude_none=True)
        if not model.is_open(given) and not {"preset", FROM, *model.sizes} & given.keys():
            model.preset = "char-tiny"
        log = LogSection(**values.get("log", {}))
        log.check()
        parts = {section: dict(values.get(section, {})) for section in DEFAULT_PARTS}
        grouping = {
            k: parts["optimizer"].pop(k) for k in Grouping.model_fields if k in parts["optimizer"]
        }
        return cls(
            model=model.given(),
            data=data,
            training=TrainingConfig(**values.get("training", {})),
            log=log,
            adapter=AdapterConfig(**values["adapter"]) if "adapter" in values else None,
            ema=EmaConfig(**values["ema"]) if "ema" in values else None,
            grouping=Grouping(**grouping),
            durations=DurationsConfig(**values["durations"]) if "durations" in values else None,
            said=said,
            **{
                section: make_part(section, parts[section], default)
                for section, default in DEFAULT_PARTS.items()
            },
        )

    @property
    def sinks(self) -> list[Part]:
        """The sinks of ``[log]`` with their options."""
        return self.log.parts(self.log.sinks)

    @property
    def monitors(self) -> list[Part]:
        """The monitors of ``[log]`` with their options."""
        return self.log.parts(self.log.monitors)

    def changed(self, section: str, **values: Any) -> RunConfig:
        """Return a copy of this configuration with other values in one section.

        Parameters
        ----------
        section : str
            In a section that names a part, ``name`` is the name of the part; a new part keeps the
            options that were asked for.
        **values
        """
        old: Any = getattr(self, section)
        new: Any
        if isinstance(old, Part):
            name = values.pop("name", old.name)
            asked = {k: v for k, v in old.options.items() if f"{section}.{k}" in self.said}
            new = Part(name, {**(old.options if name == old.name else asked), **values})
        elif isinstance(old, dict):
            new = {**old, **values}
        else:
            new = old.model_copy(update=values)
        return replace(self, **{section: new})

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Return nested tables of plain values, from which ``from_mapping`` builds an equal one.

        What has no value (such as ``max_steps`` when ``epochs`` counts) is left out.
        """
        tables: dict[str, dict[str, Any]] = {}
        for section in SECTION_KEYS:
            value = getattr(self, section)
            if isinstance(value, Part):
                tables[section] = {"name": value.name, **value.options}
                if section == "optimizer":
                    tables[section] |= self.grouping.given()
            elif isinstance(value, dict):
                tables[section] = dict(value)
            elif isinstance(value, DataSection):
                tables[section] = value.given()
            elif value is not None:
                tables[section] = value.model_dump(exclude_none=True)
        return tables


def default_settings() -> list[Setting]:
    """Return the settings of the run that comes with TissLM (``default.toml``)."""
    text = resources.files("tisslm.config").joinpath("default.toml").read_text("utf-8")
    return table_settings(parse_toml(text, DEFAULT_RUN), DEFAULT_RUN)


def _check_keys(values: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ``ConfigError`` for an unknown section or key, suggesting the nearest known one."""
    for section, table in values.items():
        if section not in SECTION_KEYS:
            near = nearest(section, SECTION_KEYS)
            advice = f"did you mean [{near}]?" if near else f"known: {', '.join(SECTION_KEYS)}"
            raise ConfigError(f"[{section}]: unknown section; {advice}")
        closed = section in _CLOSED and not _CLOSED[section].is_open(table)
        for key in table if closed else ():
            if key not in SECTION_KEYS[section]:
                raise unknown_key(section, key, SECTION_KEYS[section], HOMES)
