"""A model with adapters merged into it: those of a checkpoint of ours, or of a folder of PEFT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tisslm import checkpoint
from tisslm.checkpoint import ADAPTER, ADAPTER_CONFIG, BASE, EMA
from tisslm.config.model import TransformerConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.published import Published
from tisslm.models.tuning.base import Base, base_of
from tisslm.models.tuning.exchange import TunedAdapters, saved_adapter
from tisslm.models.tuning.merging import Merged
from tisslm.models.tuning.peft import Peft, adapter_of_peft, check_shapes
from tisslm.models.tuning.tuning import Tuning
from tisslm.registry import Registry
from tisslm.system.safe_files import show
from tisslm.workflows.open_model.averaged import Averaged
from tisslm.workflows.open_model.checkpoints import saved_tokenizer
from tisslm.workflows.open_model.opened import OpenModel

__all__ = ["of_adapters", "of_peft"]

#: What opens the model that adapters are beside.
Opener = Callable[[str | Path], OpenModel]


def of_adapters(
    place: checkpoint.Found,
    found: checkpoint.Checkpoint,
    registry: Registry,
    open_base: Opener,
) -> OpenModel:
    """Return the base of adapters with these merged into it, if it is what it was."""
    where = place.path
    beside = found[BASE] if BASE in found.files else {}
    adapter, base = saved_adapter(beside, where), Base.load(beside.get("base"), where / BASE.name)
    if not Path(base.path).exists():
        raise CheckpointError(
            f"{where}: its adapters are for the model {base.path}, which is not there; put it back"
        )
    base.check(base_of(base.path), where)
    opened = open_base(base.path)
    shape = opened.shape({})
    if not isinstance(shape, TransformerConfig):
        raise CheckpointError(f"{where}: adapters are for models of built-in families alone")
    try:
        adapters = TunedAdapters(shape, adapter, base).inward(found[ADAPTER], where)
    except ConfigError as error:  # of what no such model has
        raise CheckpointError(f"{where / BASE.name}: {error}") from error
    if EMA in found.files:
        shapes = {name: array.shape for name, array in adapters.items()}
        adapters = Averaged(adapters, found[EMA])
        check_shapes(adapters, shapes, str(where / EMA.name))
    saved, settings = checkpoint.model_settings(found, where), dict(opened.published.settings)
    kept = ("dropout",) if shape.positions == "learned" else ("dropout", "seq_len")
    settings |= {key: saved[key] for key in kept if key in saved}
    merged = Merged(shape, opened.published.arrays, adapter, adapters)
    published = Published(settings, merged, str(where))
    tokenizer = saved_tokenizer(found, registry, where)
    return OpenModel(opened.family, published, opened.dtype, tokenizer, place)


def of_peft(path: Path, open_base: Opener) -> OpenModel:
    """Return the base that a folder of PEFT names, with its adapters merged into it."""
    values = ADAPTER_CONFIG.read(path)
    named = values.get("base_model_name_or_path")
    places = [] if not isinstance(named, str) else [Path(named), path / named]
    base = next((place for place in places if place.exists()), None)
    if base is None:
        raise CheckpointError(
            f"{path / ADAPTER_CONFIG.name}: base_model_name_or_path: expected the path of a model "
            f"on this machine, got {show(named)}; download it, and write its path there"
        )
    if (base / ADAPTER_CONFIG.name).exists():  # itself, even
        raise CheckpointError(
            f"{path / ADAPTER_CONFIG.name}: base_model_name_or_path: expected a whole model, got "
            f"adapters in {base}; export those merged, and write the path of that"
        )
    opened = open_base(base)
    shape = opened.shape({})
    if not isinstance(shape, TransformerConfig):
        raise CheckpointError(f"{path}: adapters are for models of built-in families alone")
    arrays, where = ADAPTER.read(path), str(path / ADAPTER.name)
    adapter = adapter_of_peft(values, arrays, shape, str(path / ADAPTER_CONFIG.name))
    adapters = Peft(shape, adapter.targets).inward(arrays, where)
    try:
        expected = {s.name: s.shape for s in Tuning(adapter=adapter).specs(shape)}
    except ConfigError as error:  # a rank that no matrix has
        raise CheckpointError(f"{path / ADAPTER_CONFIG.name}: {error}") from error
    check_shapes(adapters, expected, where)
    merged = Merged(shape, opened.published.arrays, adapter, adapters)
    published = Published(opened.published.settings, merged, str(path))
    return OpenModel(opened.family, published, opened.dtype, opened.tokenizer)
