"""Reading a folder that Hugging Face transformers has saved: configuration and weights.

What sentence-transformers adds to one, which makes it an encoder of texts, is read, too.

Nothing of it is run or trusted: weights are safetensors alone, and every array is compared with the
configuration before memory is taken. There is no manifest, so damage within an array goes unseen.
Tokenizers are read in ``tisslm.tokenizers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tisslm.config.model import TransformerConfig
from tisslm.contracts.exchange import OWN
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.huggingface.arrays import Inward, zeros_hold
from tisslm.models.huggingface.configuration import shape_of, written
from tisslm.models.huggingface.sentence_transformers import body_of, read_modules
from tisslm.models.published import Published
from tisslm.system.safe_files import Refusal, RegularFile, show
from tisslm.system.sharded_tensors import ShardedTensors
from tisslm.system.strict_json import parse_json
from tisslm.system.tensor_files import TensorFile

__all__ = ["CONFIG", "INDEX", "WEIGHTS", "read_folder"]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"

_REFUSAL = Refusal(
    CheckpointError, "the model cannot be read", "download or save the whole model again"
)
_CONFIG_BYTES, _CONFIG_VALUES = 2**20, 2**16

#: Endings of files of pickles, which are programs.
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def read_folder(path: str | Path, *, any_dropout: bool = False) -> Published:
    """Read what ``save_pretrained`` of transformers, or a checkpoint of ours, has left in a folder.

    Parameters
    ----------
    path : str or Path
        A folder; it and its files may be symbolic links.
    any_dropout : bool
        Whether the folder's is of no interest, since another takes its place; otherwise it must be
        the same at all places.

    Returns
    -------
    Published
        Its arrays are read when they are asked for.

    Raises
    ------
    CheckpointError
        If a file is missing or malformed, the architecture is not known, a key may change what the
        model computes, or arrays and configuration differ.
    """
    folder = Path(path)
    try:
        values, arrays = _configuration(folder), _weights(folder)
    except OSError as error:  # such as a folder that this user may not look into
        raise _REFUSAL(folder, error.strerror) from error
    where = str(folder / CONFIG)
    modules = read_modules(folder)
    shape = _own_shape(values)
    if shape is None or not _holds(shape, values, where) or not zeros_hold(shape, arrays):
        shape = shape_of(values, where, any_dropout=any_dropout)
    _check_types(arrays, folder)
    if modules is None:
        inward = Inward(shape, arrays, str(folder))
        return Published({"family": shape.family, **shape.values()}, inward, str(folder))
    inward = Inward(body_of(shape), arrays, str(folder))  # an encoder needs no output matrix
    settings = {**shape.values(), **modules.settings}
    return Published({"family": shape.family, **settings}, modules.joined(inward), str(folder))


def _configuration(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: expected the folder of a model, with {CONFIG} and {WEIGHTS}, got "
            f"{'a file' if folder.exists() else 'none'}; give the folder"
        )
    if not path.exists():
        raise CheckpointError(
            f"{folder}: expected {CONFIG}, which says what the weights are of, found none; "
            "download the whole model, or save it by save_pretrained of transformers"
        )
    with RegularFile(path, _REFUSAL, follow=True) as file:
        data = file.read(_CONFIG_BYTES)
        return parse_json(data, path, _REFUSAL, max_values=_CONFIG_VALUES, max_depth=16)


def _weights(folder: Path) -> TensorFile | ShardedTensors:
    if (folder / WEIGHTS).exists():
        file = TensorFile(folder / WEIGHTS, _REFUSAL, follow=True)
        hollow = file.file.is_hollow()
        arrays: TensorFile | ShardedTensors = file
    elif (folder / INDEX).exists():
        arrays = ShardedTensors(folder / INDEX, _REFUSAL)
        hollow = arrays.is_hollow()
    else:
        raise _no_weights(folder)
    if hollow:
        raise _REFUSAL(folder, "expected weights, got a file that is larger than memory and empty")
    return arrays


def _no_weights(folder: Path) -> CheckpointError:
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    if not pickles:
        return CheckpointError(
            f"{folder}: expected {WEIGHTS} or {INDEX}, found neither; "
            "download the whole model again"
        )
    return CheckpointError(
        f"{folder}: expected {WEIGHTS}, got {show(pickles[0])}, a pickle, which can run any "
        "program when it is opened and is not read here; take the safetensors file of the model, "
        "or load it by transformers, if you trust it, and save it by save_pretrained"
    )


def _own_shape(values: dict[str, Any]) -> TransformerConfig | None:
    """Return the shape that our own settings say; None if they are not there or not one."""
    own = values.get(OWN)
    if not isinstance(own, dict):
        return None
    try:
        return TransformerConfig(**own)
    except ConfigError:
        return None


def _holds(own: TransformerConfig, values: Mapping[str, Any], where: str) -> bool:
    """Return whether our own settings still say what the rest of a configuration says.

    Somebody may have changed one of them since, and then it is the rest that holds.
    """
    said = written(own)
    return said is not None and (
        shape_of(said, OWN, any_dropout=True) == shape_of(values, where, any_dropout=True)
    )


def _check_types(arrays: TensorFile | ShardedTensors, folder: Path) -> None:
    """Refuse whole numbers of 16 bits, which would be taken for bfloat16."""
    for name in arrays:
        if arrays.kind(name)[1].name == "uint16" and name not in arrays.bfloat16:
            raise _REFUSAL(folder, f"{show(name)}: expected weights, got whole numbers of 16 bits")
