"""Adapting defaults and presets to the settings that were asked for, with a note.

Defaults and presets are guesses: where a setting that was asked for contradicts one, the guess is
replaced. What was asked for is carried out unchanged, or refused. This module handles what only
parts, presets and data can tell; settings that contradict those of a weaker source are handled in
``config.giving_way``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tisslm.config import Part, RunConfig
from tisslm.config.aliases import note
from tisslm.config.durations import KEYS as DURATIONS
from tisslm.config.fields import show
from tisslm.config.precedence import DEFAULT_PARTS
from tisslm.config.model import FAMILIES, TransformerConfig, family_of, preset
from tisslm.contracts import ModelConfig, ModelFamily, Tokenizer
from tisslm.workflows.build.data import RunData, load_data
from tisslm.workflows.build.examples import PREFERENCES
from tisslm.datasets.splits import TooShortError
from tisslm.errors import ConfigError, PluginError
from tisslm.workflows.load_model import saved_tokenizer
from tisslm.workflows.open_model import OpenModel
from tisslm.registry import Registry
from tisslm.workflows.build.tokenizer import OF_MODEL, Known, LearnsFromTextError

__all__ = ["read_data", "settle_names", "settle_origin", "settle_sizes", "with_tokenizer_of_model"]


def settle_names(config: RunConfig, registry: Registry) -> RunConfig:
    """Choose the parts that nobody named by the options that were given for them.

    Raises
    ------
    ConfigError
        If several parts take the options.
    """
    if config.data.name == PREFERENCES and "loss.name" not in config.said:
        note('loss.name = "dpo" follows from data.name = "preferences"')
        config = config.changed("loss", name="dpo")
    for section in DEFAULT_PARTS:
        config = _settle_name(config, section, registry)
    return config


def _settle_name(config: RunConfig, section: str, registry: Registry) -> RunConfig:
    part = getattr(config, section)
    durations = {} if config.durations is None else config.durations.spans()
    keys = [*part.options, *(key for key in durations if DURATIONS[key] == section)]
    asked = [key for key in keys if f"{section}.{key}" in config.said]
    if f"{section}.name" in config.said or not asked:
        return config
    if set(asked) <= _options(registry, section, part.name):
        return config
    names = [entry.entry.name for entry in registry.entries(section)]
    takers = [name for name in names if set(asked) <= _options(registry, section, name)]
    given = " and ".join(f"{section}.{key}" for key in asked)
    if len(takers) > 1:
        raise ConfigError(
            f"{section}.name: expected the part that {given} belongs to: {' or '.join(takers)}; "
            f"{part.name}, which is taken where none is named, has no such option"
        )
    if not takers:
        return config
    note(f"{section}.name = {show(takers[0])} follows from {given}, in place of {show(part.name)}")
    return config.changed(section, name=takers[0])


def _options(registry: Registry, section: str, name: str) -> frozenset[str]:
    """Return the names of a part's options; none for a part that cannot be imported."""
    try:
        return registry.options(section, name)
    except PluginError:
        return frozenset()


#: Keys of a preset that give way without a note: to the tokenizer, which is not known yet, and to
#: positions that are not rotary.
_UNSAID = frozenset({"vocab_size", "rope_theta", "rope_scaling", "rotary_fraction"})


def settle_sizes(model: dict[str, Any], registry: Registry) -> tuple[ModelFamily, ModelConfig]:
    """Return the model's family and configuration, with a vocabulary of 1 if none is given.

    Parameters
    ----------
    model : dict
        The keys of ``[model]``. Values of a preset are adapted to the other keys.
    registry : Registry

    Raises
    ------
    ConfigError
        If the keys do not fit each other.
    """
    values = {"vocab_size": 1, **model}
    family: ModelFamily = registry.get("model", family_of(values))()
    values.pop("family", None)
    shape = family.configure(**values)
    found_values = shape.values()
    _note_heads(shape)
    for key, own in _preset(model, family).items():
        found = found_values.get(key)
        if key in _UNSAID:
            continue
        if key not in model and found != own:
            note(f"model.{key} = {found} in place of the preset's {own}, to fit what was given")
    return family, shape


def _note_heads(shape: ModelConfig) -> None:
    """Say what muP takes for the heads of its base, where that matters and was not said."""
    if isinstance(shape, TransformerConfig) and shape.width_ratio != 1.0:
        base, size = shape.mup_base_width, shape.head_dim
        if not shape.mup_base_head_dim:
            note(
                f"model.mup_base_width = {base} is taken to have {shape.n_head} heads, too, of "
                f"{size * shape.width_ratio:g} channels; if its heads are as wide as those of this "
                f"model, set model.mup_base_head_dim = {size}"
            )


def _preset(model: Mapping[str, Any], family: ModelFamily) -> Mapping[str, Any]:
    """Return what the preset of ``[model]`` says, ``family`` left out; nothing without a preset."""
    name = model.get("preset", "")
    if not name or family_of(model) not in FAMILIES:
        return family.presets.get(name, {})
    return {key: value for key, value in preset(name).items() if key != "family"}


def settle_origin(config: RunConfig, origin: OpenModel) -> RunConfig:
    """Name the tokenizer of the model that a run starts from, if it has one.

    Raises
    ------
    ConfigError
        If another was asked for: its ids would mean other things to the model.
    """
    if origin.tokenizer is None or config.tokenizer.name == OF_MODEL:
        return config
    said = sorted(key for key in config.said if key.startswith("tokenizer."))
    if said:
        raise ConfigError(
            f"{said[0]}: {origin.where} has a tokenizer of its own, by which its model was "
            "trained; leave [tokenizer] out"
        )
    return with_tokenizer_of_model(config)


def with_tokenizer_of_model(config: RunConfig) -> RunConfig:
    """Return the configuration with the tokenizer of the model that the run starts from."""
    return replace(config, tokenizer=Part(OF_MODEL, {}))


def read_data(
    config: RunConfig, seq_len: int, registry: Registry, of_model: Tokenizer | None = None
) -> tuple[RunConfig, int, RunData]:
    """Read the data of a run; where defaults do not fit the data, adapt them and read again.

    The tokenizer, the validation fraction and the length of rows may be adapted.

    Parameters
    ----------
    config : RunConfig
    seq_len : int
        T of the model's configuration.
    registry : Registry
    of_model : Tokenizer, optional
        The tokenizer of the model that the run starts from.

    Returns
    -------
    config : RunConfig
    seq_len : int
    data : RunData

    Raises
    ------
    ConfigError, DataError
        As ``load_data`` does.
    """
    first: TooShortError | None = None
    notes: list[str] = []
    while True:
        try:
            find = lambda: saved_tokenizer(config, registry)  # noqa: B023, E731
            data = load_data(config, seq_len, registry, Known(of_model, find))
        except TooShortError as error:
            first = first or error
            shorter = _shortened(config, seq_len, error)
            if shorter is None:  # nothing that is left can give way: what was wrong at first
                raise first from None
            config, seq_len, said = shorter
            notes.append(said)
        except LearnsFromTextError:
            if "tokenizer.name" in config.said:
                raise
            own = show(config.tokenizer.name)
            notes.append(f'tokenizer.name = "byte" in place of {own}, which learns from a text')
            config = config.changed("tokenizer", name="byte")
        else:
            for said in notes:
                note(said)
            return config, seq_len, data


def _shortened(
    config: RunConfig, seq_len: int, error: TooShortError
) -> tuple[RunConfig, int, str] | None:
    """Return the arguments of the next try and a note on it; None if nothing can be adapted."""
    held_out = [config.data.valid_fraction, *(s.valid_fraction for s in config.data.sources)]
    if error.was_split and "data.valid_fraction" not in config.said and not any(held_out[1:]):
        reason = str(error).partition("; ")[0]
        said = f"data.valid_fraction = {held_out[0]} left out, without validation: {reason}"
        return config.changed("data", valid_fraction=0.0), seq_len, said
    if error.n_tokens < 2 or "model.seq_len" in config.said:
        return None
    fits = error.n_tokens - 1
    said = f"model.seq_len = {fits} in place of {seq_len}: the text has {error.n_tokens} tokens"
    return config.changed("model", seq_len=fits), fits, said
