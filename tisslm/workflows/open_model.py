"""A model from wherever it is: a run or a checkpoint of ours, or what somebody has published.

Its configuration is read at once, and each weight when the model is built. Files of checkpoints are
read in ``checkpoint``, published ones in ``models``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tisslm import checkpoint
from tisslm.checkpoint import ADAPTER, ADAPTER_CONFIG, BASE, CONFIG, MODEL, TRAINER_ARRAYS
from tisslm.checkpoint.files import HF_TOKENIZER, TOKENIZER
from tisslm.checkpoint.finding import NoCheckpointError
from tisslm.checkpoint.manifest import has_manifest
from tisslm.checkpoint.tokenizer_files import TOKENIZER_FILES
from tisslm.config.model import FAMILY, TransformerConfig
from tisslm.contracts import ModelConfig, ModelFamily, Network, Tokenizer
from tisslm.errors import CheckpointError, ConfigError, PluginError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.families.transformers import TransformerFamily
from tisslm.models.initialization import initialize
from tisslm.models.pretrained import read_published
from tisslm.models.published import Published, fill, shape_of
from tisslm.models.transformer import Transformer
from tisslm.models.tuning.base import Base, base_of
from tisslm.models.tuning.exchange import TunedAdapters, saved_adapter
from tisslm.models.tuning.merging import Merged
from tisslm.models.tuning.peft import Peft, adapter_of_peft, check_shapes
from tisslm.models.tuning.tuning import Tuning
from tisslm.registry import Registry
from tisslm.system.safe_files import show
from tisslm.system.tensor_files import kind_of
from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.workflows.build.tuned import build_tuned, specs_of

__all__ = ["OpenModel", "open_model", "tokenizer_of"]

#: The files that are needed for a model without its run.
_OF_A_MODEL = (MODEL, ADAPTER, ADAPTER_CONFIG, BASE, CONFIG, *TOKENIZER_FILES)

#: What weights of a folder are called.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*")


@dataclass(frozen=True)
class OpenModel:
    """A model that can be built.

    Attributes
    ----------
    family : ModelFamily
    published : Published
        Its settings, and its weights by our names.
    dtype : {"float32", "float64"}
        The type of the model that is built.
    tokenizer : Tokenizer or None
    place : Found or None
        The checkpoint, if it is one of ours.
    """

    family: ModelFamily
    published: Published
    dtype: str
    tokenizer: Tokenizer | None
    place: checkpoint.Found | None = None

    @property
    def where(self) -> str:
        """The file or folder, for messages."""
        return self.published.where

    def shape(self, given: Mapping[str, Any]) -> ModelConfig:
        """Return the shape of the model, with some values replaced.

        Parameters
        ----------
        given : mapping
            For a built-in family: ``seq_len``, ``dropout``, and what makes an encoder of a
            language model, ``pooling`` and the keys that go with it.

        Raises
        ------
        CheckpointError
            If the weights are not those of such a model.
        ConfigError
            If a value cannot be replaced so.
        """
        if isinstance(self.family, TransformerFamily):
            return shape_of(self.published, given)
        if given:
            raise ConfigError(
                f"model.{next(iter(given))}: expected nothing beside model.from, since models of "
                f"{type(self.family).__name__} start as they are; leave it out"
            )
        values = {key: v for key, v in self.published.settings.items() if key != "family"}
        return self.family.configure(**values)

    def build(self, shape: ModelConfig, *, seed: int = 42, tuning: Tuning | None = None) -> Network:
        """Return the model, with its weights; what an encoder or adapters have beside is drawn.

        Parameters
        ----------
        shape : ModelConfig
            What ``shape`` has returned.
        seed : int
            Seed of what is drawn, and of every dropout mask.
        tuning : Tuning, optional
            What of it is trained; all of it if left out.
        """
        tuning = tuning or Tuning()
        specs = specs_of(self.family, shape, tuning)
        parameters = Parameters(specs, self.dtype, gradients_at_once=False)
        missing = fill(parameters, self.published)
        if isinstance(shape, TransformerConfig):
            initialize(missing, shape, seed)
        how = {"seed": seed, "dtype": self.dtype}
        model = build_tuned(self.family, shape, parameters, tuning, **how)
        if isinstance(model, Transformer) and tuning.adapter is not None:
            model.base = base_of(self.where if self.place is None else self.place.path)
        return model


def open_model(path: checkpoint.Where, registry: Registry) -> OpenModel:
    """Read what a model is, wherever it is, and find its weights.

    Parameters
    ----------
    path : str, Path or Found
        A checkpoint or a run directory, as for ``tisslm.checkpoint.find``; a folder of Hugging Face
        transformers; a GGUF file.
    registry : Registry
        Where the names of family and tokenizer are looked up.

    Raises
    ------
    CheckpointError
        If there is no model, or it is damaged.
    PluginError
        If the family or the tokenizer is not installed.
    """
    if isinstance(path, checkpoint.Found) or not _is_published(Path(path)):
        opened = _of_checkpoint(_find(path), registry)
    elif (Path(path) / ADAPTER_CONFIG.name).exists():
        opened = _of_peft(Path(path), registry)
    else:
        opened = _of_others(Path(path), registry)
    vocab_size, tokenizer = opened.published.settings.get("vocab_size"), opened.tokenizer
    if tokenizer is not None and type(vocab_size) is int and tokenizer.vocab_size > vocab_size:
        mend = "the two are of different models, take both from one"
        if opened.place is not None:
            mend = "the two files are of different runs, use another checkpoint"
        raise CheckpointError(
            f"{opened.where}: its tokenizer has {tokenizer.vocab_size} ids, its model a vocabulary "
            f"of {vocab_size}; {mend}"
        )
    return opened


def _find(path: checkpoint.Where) -> checkpoint.Found:
    """Return the checkpoint that a path stands for, or say what else it might have been."""
    try:
        return checkpoint.find(path)
    except NoCheckpointError as error:
        raise CheckpointError(
            f"{error}; also a folder of Hugging Face transformers or a GGUF file would do"
        ) from error


def _is_published(path: Path) -> bool:
    """Return whether a path is a model of somebody else's making: no run and no checkpoint."""
    if path.is_file():
        return path.suffix != ".bin"  # the founding document's name of a checkpoint
    if has_manifest(path) or (path / TRAINER_ARRAYS.name).exists():  # ours, whole or damaged
        return False
    return (path / CONFIG.name).exists() or any(any(path.glob(name)) for name in _WEIGHTS)


# --------------------------------------------------------------------------- ours


def _of_checkpoint(place: checkpoint.Found, registry: Registry) -> OpenModel:
    where, found = place.path, checkpoint.read(place, _OF_A_MODEL)
    if ADAPTER in found.files:
        return _of_adapters(place, found, registry)
    values = dict(checkpoint.model_settings(found, where))
    name = values.pop("family", None)
    family = _family(FAMILY if name is None else name, registry, where)
    try:
        if "preset" in values:
            raise ConfigError("model.preset: a checkpoint has every value and names no preset")
        shape = family.configure(**values)
        exchange = family.exchange(shape)
        arrays = checkpoint.with_our_names(found, exchange, where)[MODEL]
        _check_sizes(family.parameters(shape), arrays, where)
    except ConfigError as error:
        wanted = "a Transformer" if name is None else f"a model of the family {show(name)}"
        raise CheckpointError(
            f"{where / CONFIG.name}: expected the configuration of {wanted}, got another "
            f"({error}); give a checkpoint that tisslm train has written"
        ) from error
    kinds = {str(kind_of(arrays, name)[1]) for name in arrays}
    dtypes = sorted(kinds - {"uint16"})  # frozen ones, in two bytes, which become as the others
    if len(dtypes) > 1:
        raise CheckpointError(
            f"{where / MODEL.name}: expected parameters of one type, got {' and '.join(dtypes)}; "
            "the checkpoint is damaged, use an earlier one"
        )
    dtype = dtypes[0] if dtypes else "float32"
    tokenizer = _tokenizer(found, registry, where)
    settings = {"family": FAMILY if name is None else name, **values}
    return OpenModel(family, Published(settings, arrays, str(where)), dtype, tokenizer, place)


def _tokenizer(found: checkpoint.Checkpoint, registry: Registry, where: Path) -> Tokenizer | None:
    saved = checkpoint.read_tokenizer(found)
    return None if saved is None else tokenizer_of(saved, registry, where)


def _of_adapters(
    place: checkpoint.Found, found: checkpoint.Checkpoint, registry: Registry
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
    opened = open_model(base.path, registry)
    shape = opened.shape({})
    if not isinstance(shape, TransformerConfig):
        raise CheckpointError(f"{where}: adapters are for models of built-in families alone")
    try:
        adapters = TunedAdapters(shape, adapter, base).inward(found[ADAPTER], where)
    except ConfigError as error:  # of what no such model has
        raise CheckpointError(f"{where / BASE.name}: {error}") from error
    saved, settings = checkpoint.model_settings(found, where), dict(opened.published.settings)
    kept = ("dropout",) if shape.positions == "learned" else ("dropout", "seq_len")
    settings |= {key: saved[key] for key in kept if key in saved}
    merged = Merged(shape, opened.published.arrays, adapter, adapters)
    published = Published(settings, merged, str(where))
    tokenizer = _tokenizer(found, registry, where)
    return OpenModel(opened.family, published, opened.dtype, tokenizer, place)


def _of_peft(path: Path, registry: Registry) -> OpenModel:
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
    opened = open_model(base, registry)
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


def _family(name: object, registry: Registry, where: Path) -> ModelFamily:
    """Return the model family that a checkpoint names."""
    if not isinstance(name, str):
        raise CheckpointError(
            f"{where / CONFIG.name}: family: expected the name of a family of models, got "
            f"{show(name)}; the checkpoint is damaged, use an earlier one"
        )
    try:
        part = registry.part("model", name)
    except PluginError as error:
        raise PluginError(
            f"{where / CONFIG.name}: {error} Install the plugin that its run was made with"
        ) from error
    family: ModelFamily = part.load()()
    return family


def _check_sizes(specs: Iterable[ParameterSpec], arrays: Mapping[str, Any], where: Path) -> None:
    """Compare the sizes of a configuration with the arrays, before memory is allocated by it."""
    names = set()
    for spec in specs:  # one after another, however many layers the file says
        names.add(spec.name)
        found = kind_of(arrays, spec.name)[0] if spec.name in arrays else None
        if found != spec.shape:
            got = "none" if found is None else f"one of {found}"
            raise CheckpointError(
                f"{where / CONFIG.name}: expected an array {spec.name} of shape {spec.shape} in "
                f"{MODEL.name}, got {got}; the two files are of different runs, use another "
                "checkpoint"
            )
    others = sorted(set(arrays) - names)
    if others:
        raise CheckpointError(
            f"{where / MODEL.name}: made for another model: it has {others[:3]} besides. Use the "
            "configuration it was made with"
        )


def tokenizer_of(saved: Mapping[str, Any], registry: Registry, where: Path) -> Tokenizer:
    """Return the tokenizer that a checkpoint describes.

    Raises
    ------
    CheckpointError
        If it is damaged.
    PluginError
        If it is not installed.
    """
    name, state = saved.get("name"), saved.get("state")
    if not isinstance(name, str) or not isinstance(state, dict):
        raise CheckpointError(
            f"{where / TOKENIZER.name}: expected a tokenizer's name and state; the "
            "checkpoint is damaged, use an earlier one"
        )
    try:
        tokenizer: Tokenizer = registry.get("tokenizer", name).from_state(state)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
    return tokenizer


# --------------------------------------------------------------------------- of others


def _of_others(path: Path, registry: Registry) -> OpenModel:
    published = read_published(path)
    family: ModelFamily = registry.get("model", published.settings["family"])()
    tokenizer: Tokenizer | None = None
    if published.tokenizer is not None:
        tokenizer = BpeTokenizer.from_state(published.tokenizer)
    elif (path / HF_TOKENIZER.name).exists():
        tokenizer = BpeTokenizer.from_folder(path)
    return OpenModel(family, published, "float32", tokenizer)
