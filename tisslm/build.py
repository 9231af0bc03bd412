"""From a configuration to a Trainer: text, tokenizer, windows, model, parts.

What does not live here: reading configurations (``config``), and what any part does.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tisslm.config import DataSection, Part, RunConfig
from tisslm.contracts import Dataset, Tokenizer
from tisslm.datasets.python_docs import python_docs_text
from tisslm.datasets.text import read_text, split_text
from tisslm.datasets.tokens import TokenDataset
from tisslm.errors import ConfigError, DataError
from tisslm.models.transformer import Transformer
from tisslm.models.transformer_config import TransformerConfig
from tisslm.ownership import check_free
from tisslm.planning import Planner, fit_memory
from tisslm.precision import resolve_precision
from tisslm.registry import Registry, load_registry
from tisslm.run import known_folder
from tisslm.trainer import Trainer

__all__ = [
    "PYTHON_DOCS",
    "RunData",
    "build_trainer",
    "load_data",
    "load_windows",
    "plan_run",
    "read_run",
    "validation_text",
]

#: The ``data.path`` of the text that every Python carries.
PYTHON_DOCS = "python-docs"


@dataclass(frozen=True)
class RunData:
    """What a run reads.

    Attributes
    ----------
    train : Dataset
    valid : Dataset or None
    tokenizer : Tokenizer or None
        None if the dataset has ids only.
    """

    train: Dataset
    valid: Dataset | None
    tokenizer: Tokenizer | None


def build_trainer(config: RunConfig, *, registry: Registry | None = None) -> Trainer:
    """Build everything that a configuration describes, ready to ``train()``.

    Parameters
    ----------
    config : RunConfig
    registry : Registry, optional
        Where names are looked up; left out, every installed part.

    Returns
    -------
    Trainer

    Raises
    ------
    ConfigError, PluginError
        If a setting does not fit its part, the text or another setting, or a name is unknown.
    DataError
        If the text cannot be used.
    CheckpointError
        If the run is to go on from a checkpoint that does not fit.
    """
    registry = load_registry() if registry is None else registry
    folder = known_folder(config.training, config.resolved())
    if folder:
        check_free(Path(folder))
    shape, data = read_run(config, registry)
    fit_memory(plan_run(config, shape, data, registry))
    return Trainer(
        Transformer(shape, seed=config.training.seed),
        config.optimizer,
        config.loss,
        config.scheduler,
        data.train,
        config.training,
        val_dataset=data.valid,
        sinks=config.sinks,
        monitors=config.monitors,
        tokenizer=data.tokenizer,
        settings=config.resolved(),
        registry=registry,
    )


def read_run(config: RunConfig, registry: Registry) -> tuple[TransformerConfig, RunData]:
    """Return the shape of a run's model, and its data; all of a run but what takes memory.

    Raises
    ------
    ConfigError, PluginError, DataError
        As ``build_trainer`` does.
    """
    shape = _model_shape(config.model)
    _check_names(config, registry)
    data = load_data(config, shape.seq_len, registry)
    return shape.model_copy(update={"vocab_size": _vocab_size(config, data)}), data


def plan_run(
    config: RunConfig, shape: TransformerConfig, data: RunData, registry: Registry
) -> Planner:
    """Return the planner of a run whose data are read and whose model is not yet made."""
    return Planner(
        Transformer.of_shapes(shape),
        config.training,
        config.optimizer,
        registry,
        datasets=(data.train, data.valid),
        precision=resolve_precision(config.training.precision),
    )


def _model_shape(model: dict[str, Any]) -> TransformerConfig:
    """Build the model's configuration, with a vocabulary of 1 where none is given."""
    values = {"vocab_size": 1, **model}
    preset = values.pop("preset", None)
    if preset is None:
        return TransformerConfig(**values)
    return TransformerConfig.preset(preset, **values)


def _check_names(config: RunConfig, registry: Registry) -> None:
    """Look every name up, so that a wrong one is found before a long text is read."""
    for kind in ("tokenizer", "optimizer", "scheduler", "loss"):
        registry.part(kind, getattr(config, kind).name)
    for kind, parts in (("sink", config.sinks), ("monitor", config.monitors)):
        for part in parts:
            registry.part(kind, part.name)


def _vocab_size(config: RunConfig, data: RunData) -> int:
    """Return the model's vocabulary: the tokenizer's, unless a larger one is given."""
    needed = data.train.vocab_size if data.tokenizer is None else data.tokenizer.vocab_size
    given: int = config.model.get("vocab_size", needed)
    if given < needed:
        whose = "dataset" if data.tokenizer is None else f"{config.tokenizer.name} tokenizer"
        raise ConfigError(
            f"model.vocab_size: expected at least {needed}, the number of ids of the {whose}, "
            f"got {given}; leave it out or raise it"
        )
    return given


# --------------------------------------------------------------------------- data


def load_data(config: RunConfig, seq_len: int, registry: Registry) -> RunData:
    """Read what ``[data]`` names, as windows of ``seq_len`` tokens.

    Parameters
    ----------
    config : RunConfig
    seq_len : int
        T of the model.
    registry : Registry

    Raises
    ------
    DataError
        If a text cannot be read, or is too short for one window.
    """
    data = config.data
    if data.name != "text":
        return _other_dataset(config, seq_len, registry)
    text = _read(data.path)
    further = _read(data.valid_path) if data.valid_path else ""
    train, valid = (text, further) if further else split_text(text, data.valid_fraction)
    # What a tokenizer learns from frequencies must not come from the held-out text; each character
    # that only that has is shown once, so that a tokenizer of characters can encode it.
    unseen = "".join(sorted(set(valid) - set(train)))
    tokenizer: Tokenizer = registry.build(
        "tokenizer", config.tokenizer, train + unseen, via="from_text"
    )
    return RunData(
        load_windows(train, tokenizer, seq_len, f"{data.path}, training part"),
        _validation_windows(data, valid, tokenizer, seq_len) if valid else None,
        tokenizer,
    )


def validation_text(data: DataSection) -> str:
    """Return the text that a run validates on, "" if there is none.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    if data.name != "text":
        return ""
    if data.valid_path:
        return _read(data.valid_path)
    return split_text(_read(data.path), data.valid_fraction)[1]


def load_windows(text: str, tokenizer: Tokenizer, seq_len: int, where: str) -> TokenDataset:
    """Cut a text into windows of tokens.

    Parameters
    ----------
    text : str
    tokenizer : Tokenizer
    seq_len : int
    where : str
        What messages begin with.
    """
    try:
        tokens = tokenizer.encode_array(text)
        return TokenDataset(tokens, seq_len, vocab_size=tokenizer.vocab_size)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _read(path: str) -> str:
    return python_docs_text() if path == PYTHON_DOCS else read_text(path)


def _validation_windows(
    data: DataSection, text: str, tokenizer: Tokenizer, seq_len: int
) -> TokenDataset:
    if data.valid_path:
        return load_windows(text, tokenizer, seq_len, data.valid_path)
    try:
        return load_windows(text, tokenizer, seq_len, f"{data.path}, validation part")
    except DataError as error:
        raise DataError(
            f"{error}; or change data.valid_fraction = {data.valid_fraction}, where 0 trains "
            "without validation"
        ) from error


def _other_dataset(config: RunConfig, seq_len: int, registry: Registry) -> RunData:
    """Build a dataset of another name; it is validated on ``data.valid_path`` only."""
    data = config.data
    defaults: dict[str, object] = {"seq_len": seq_len}
    if "tokenizer" in inspect.signature(registry.get("dataset", data.name)).parameters:
        defaults["tokenizer"] = _tokenizer_without_text(config, registry)
    found: list[Dataset] = []
    for path in (data.path, data.valid_path):
        options = {**data.options, "path": path} if path else data.options
        if path or not found:
            part = Part(data.name, options)
            found.append(registry.build("dataset", part, defaults=defaults))
    return RunData(
        found[0], found[1] if len(found) > 1 else None, getattr(found[0], "tokenizer", None)
    )


def _tokenizer_without_text(config: RunConfig, registry: Registry) -> Tokenizer:
    try:
        tokenizer: Tokenizer = registry.build("tokenizer", config.tokenizer, "", via="from_text")
    except DataError as error:
        raise ConfigError(
            f"tokenizer.name: {config.tokenizer.name!r} learns from a text, which the dataset "
            f"{config.data.name!r} does not give; choose byte, or bpe with a path"
        ) from error
    return tokenizer
