"""Writing the adapters of a run alone: a folder that PEFT loads, or a file of llama.cpp."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tisslm import checkpoint
from tisslm.checkpoint import ADAPTER, ADAPTER_CONFIG, BASE, CONFIG, EMA, Checkpoint
from tisslm.checkpoint.tokenizer_files import TOKENIZER_FILES
from tisslm.config.model import TransformerConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.gguf.writing_adapter import write_gguf_adapter
from tisslm.models.tuning.base import Base
from tisslm.models.tuning.exchange import TunedAdapters, saved_adapter
from tisslm.models.tuning.peft import check_shapes
from tisslm.registry import Registry, load_registry
from tisslm.workflows.export.contents import Contents
from tisslm.workflows.export.folder import DTYPES, put_folder
from tisslm.workflows.open_model import tokenizer_of
from tisslm.workflows.open_model.averaged import Averaged, averages_of

__all__ = ["check_beside", "write_adapter", "write_llama_adapter"]


_FILES = (ADAPTER, ADAPTER_CONFIG, BASE, CONFIG, *TOKENIZER_FILES)


def _read(source: str | Path, *, ema: bool) -> tuple[Checkpoint, Path]:
    """Return the checkpoint of a run of adapters, and its directory."""
    place = checkpoint.find(source)
    found = checkpoint.read(place, (*_FILES, EMA) if ema else _FILES)
    if ADAPTER not in found.files:
        raise ConfigError(
            f"{place.path}: expected the checkpoint of a run that trained adapters, got one of a "
            "whole model; export it with --format hf or gguf"
        )
    return _with_averages(found, place.path) if ema else found, place.path


def _with_averages(found: Checkpoint, where: Path) -> Checkpoint:
    """Return a checkpoint with the averages of its adapters in place of them."""
    shape = TransformerConfig(**checkpoint.model_settings(found, where))
    exchange = TunedAdapters(shape, saved_adapter(found.files.get(BASE, {}), where), None)
    weights = exchange.inward(found.files[ADAPTER], where)
    averaged = dict(Averaged(weights, averages_of(found, where)))
    shapes = {name: array.shape for name, array in weights.items()}
    check_shapes(averaged, shapes, str(where / EMA.name))
    return replace(found, files={**found.files, ADAPTER: exchange.outward(averaged)})


def _shape_of(found: Checkpoint, where: Path) -> TransformerConfig:
    """Return the shape of the model that adapters are beside, if others can have the same."""
    shape = TransformerConfig(**checkpoint.model_settings(found, where))
    if shape.rescaled:
        raise ConfigError(
            f"{where}: expected adapters of a model without muP's factors, which others do not "
            f"multiply by, got model.mup_base_width = {shape.mup_base_width}; export the model "
            "merged, with --format hf or gguf"
        )
    return shape


def check_beside(path: Path, source: str | Path) -> None:
    """Refuse to replace the model that a run's adapters are beside.

    Parameters
    ----------
    path : Path
        What is to be replaced.
    source : str or Path
        What is exported; what is no checkpoint of adapters is let through.

    Raises
    ------
    ConfigError
        If it is that model, or has it within.
    """
    with suppress(CheckpointError):  # which is told by who loads it
        found = checkpoint.read(checkpoint.find(source), (BASE,))
        beside = found.files.get(BASE, {}).get("base")
        if beside is None:
            return
        base = Path(Base.load(beside, path).path)
        if base.resolve().is_relative_to(path.resolve()):
            raise ConfigError(
                f"{path}: expected another place than that of the model that the adapters are "
                "beside, which would be lost to them; choose another --output"
            )


def write_llama_adapter(path: Path, source: str | Path, *, ema: bool = False) -> int:
    """Write the adapters as a GGUF file, and return its size.

    Parameters
    ----------
    path : Path
    source : str or Path
        A run or checkpoint of adapters.
    ema : bool
        Whether their averages are written.

    Raises
    ------
    ConfigError
        If it has none, or none that llama.cpp has a form for.
    CheckpointError
        If the source is damaged, or the file cannot be written.
    """
    found, where = _read(source, ema=ema)
    adapter = saved_adapter(found.files.get(BASE, {}), where)
    shape = _shape_of(found, where)
    arrays = TunedAdapters(shape, adapter, None).inward(found.files[ADAPTER], where)
    write_gguf_adapter(path, shape, adapter, arrays)
    return path.stat().st_size


def write_adapter(
    path: Path, source: str | Path, registry: Registry | None = None, *, ema: bool = False
) -> int:
    """Write ``adapter_config.json``, ``adapter_model.safetensors`` and the tokenizer's files.

    Parameters
    ----------
    path : Path
        The folder to make.
    source : str or Path
        A run or checkpoint of adapters.
    registry : Registry, optional
        Where the tokenizer's name is looked up.
    ema : bool
        Whether the averages of the adapters are written.

    Returns
    -------
    int
        The size of all files.

    Raises
    ------
    ConfigError
        If it has none, or none that PEFT has a form for.
    CheckpointError
        If the source is damaged, or the folder cannot be written.
    """
    found, where = _read(source, ema=ema)
    _shape_of(found, where)
    if ADAPTER_CONFIG not in found.files:
        raise ConfigError(
            f"{where}: expected adapters of whole modules of PEFT, got some of a part of one, "
            'as q and v of GPT-2 are; train with adapter.targets = ["qkv"], or export it merged, '
            "with --format hf or gguf"
        )
    saved = checkpoint.read_tokenizer(found)
    known = registry if registry is not None or saved is None else load_registry()
    tokenizer = None if saved is None or known is None else tokenizer_of(saved, known, where)
    files = None if tokenizer is None else tokenizer.published()
    documents = {ADAPTER_CONFIG.name: found[ADAPTER_CONFIG], **(files or {})}
    contents = Contents(documents, {ADAPTER.name: found.files[ADAPTER]}, [])
    return put_folder(path, contents, DTYPES["fp32"][0])
