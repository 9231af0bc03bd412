"""Where a path leads: to a checkpoint, to adapters, to a model of others.

Its configuration is read at once, and each weight when the model is built. Files of checkpoints are
read in ``checkpoint``, published ones in ``models``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tisslm import checkpoint
from tisslm.checkpoint import ADAPTER, ADAPTER_CONFIG, BASE, CONFIG, EMA, MODEL, TRAINER_ARRAYS
from tisslm.checkpoint.files import HF_TOKENIZER
from tisslm.checkpoint.finding import NoCheckpointError
from tisslm.checkpoint.manifest import has_manifest
from tisslm.checkpoint.tokenizer_files import TOKENIZER_FILES
from tisslm.contracts import ModelFamily, Tokenizer
from tisslm.errors import CheckpointError
from tisslm.models.pretrained import read_published
from tisslm.registry import Registry
from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.workflows.open_model.adapted import of_adapters, of_peft
from tisslm.workflows.open_model.averaged import averages_of
from tisslm.workflows.open_model.checkpoints import of_checkpoint
from tisslm.workflows.open_model.opened import OpenModel

__all__ = ["open_model"]

#: The files that are needed for a model without its run.
_OF_A_MODEL = (MODEL, ADAPTER, ADAPTER_CONFIG, BASE, CONFIG, *TOKENIZER_FILES)

#: What weights of a folder are called.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*")


def open_model(path: checkpoint.Where, registry: Registry, *, ema: bool = False) -> OpenModel:
    """Read what a model is, wherever it is, and find its weights.

    Parameters
    ----------
    path : str, Path or Found
        A checkpoint or a run directory, as for ``tisslm.checkpoint.find``; a folder of Hugging Face
        transformers; a GGUF file.
    registry : Registry
        Where the names of family and tokenizer are looked up.
    ema : bool
        Whether the average of the weights is taken, of a run that has one.

    Raises
    ------
    CheckpointError
        If there is no model, or no average of it, or it is damaged.
    PluginError
        If the family or the tokenizer is not installed.
    """
    if isinstance(path, checkpoint.Found) or not _is_published(Path(path)):
        opened = _of_ours(_find(path), registry, ema=ema)
    elif ema:
        raise CheckpointError(
            f"{path}: expected a run or checkpoint, which may have averaged weights, got a model "
            "of others; leave --ema out"
        )
    elif (Path(path) / ADAPTER_CONFIG.name).exists():
        opened = of_peft(Path(path), partial(open_model, registry=registry))
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


def _of_ours(place: checkpoint.Found, registry: Registry, *, ema: bool) -> OpenModel:
    found = checkpoint.read(place, (*_OF_A_MODEL, EMA) if ema else _OF_A_MODEL)
    if ema:
        averages_of(found, place.path)  # or say that there are none
    if ADAPTER in found.files:
        return of_adapters(place, found, registry, partial(open_model, registry=registry))
    return of_checkpoint(place, found, registry)


def _of_others(path: Path, registry: Registry) -> OpenModel:
    published = read_published(path)
    family: ModelFamily = registry.get("model", published.settings["family"])()
    tokenizer: Tokenizer | None = None
    if published.tokenizer is not None:
        tokenizer = BpeTokenizer.from_state(published.tokenizer)
    elif (path / HF_TOKENIZER.name).exists():
        tokenizer = BpeTokenizer.from_folder(path)
    return OpenModel(family, published, "float32", tokenizer)
