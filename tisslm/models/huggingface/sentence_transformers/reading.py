"""What the files of sentence-transformers say of an encoder: pooling, projection, normalization.

What our encoders do not have is refused by name, and so is a path that leads out of the folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, final

from numpy.typing import NDArray

from tisslm.errors import CheckpointError
from tisslm.models.huggingface.sentence_transformers.writing import LINEAR, POOLINGS
from tisslm.system.safe_files import Refusal, RegularFile, show
from tisslm.system.strict_json import parse_json
from tisslm.system.tensor_files import Kind, Piece, StreamedArrays, TensorFile, kind_of, pieces_of

__all__ = ["MODULES", "Modules", "read_modules", "read_text_form"]

Array = NDArray[Any]

#: The file that names the modules, and the name of our array of the projection.
MODULES, _PROJECTION = "modules.json", "pooling.projection.weight"

_BYTES, _VALUES = 2**16, 2**12
_REFUSAL = Refusal(
    CheckpointError, "the encoder cannot be read", "download or save the whole model again"
)

#: The modules of an encoder of ours, in their order; the last two may be missing.
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")


@dataclass(frozen=True)
class Modules:
    """What follows the model of a folder.

    Attributes
    ----------
    settings : mapping
        ``pooling``, ``projection`` and ``normalize``, as ``TransformerConfig`` has them.
    dense : TensorFile, optional
        The file with the projection.
    """

    settings: Mapping[str, Any]
    dense: TensorFile | None

    def joined(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the arrays of a model, by our names, with the projection beside them."""
        return arrays if self.dense is None else _Joined(arrays, self.dense)


def read_modules(folder: Path) -> Modules | None:
    """Read what follows the model; None if the folder is of a model alone.

    Raises
    ------
    CheckpointError
        If a file is missing or malformed, or says what our encoders do not have.
    """
    if not (folder / MODULES).exists():
        return None
    with RegularFile(folder / MODULES, _REFUSAL, follow=True) as file:
        data = b'{"modules": ' + file.read(_BYTES) + b"}"  # the file is a list
    listed = parse_json(data, folder / MODULES, _REFUSAL, max_values=_VALUES, max_depth=8)
    places = _places(listed["modules"], folder / MODULES)
    settings = {
        "pooling": _pooling(folder / places["Pooling"]),
        "normalize": "Normalize" in places,
        "projection": 0,
    }
    dense = None
    if "Dense" in places:
        settings["projection"], dense = _dense(folder / places["Dense"])
    return Modules(settings, dense)


def read_text_form(folder: Path) -> dict[str, Any]:
    """Read what is made of texts: ``prompts``, ``max_tokens`` and ``similarity_name``.

    Returns
    -------
    dict
        What the files of the folder say of these; nothing if it is of a model alone.

    Raises
    ------
    CheckpointError
        If a file is malformed, or says what our encoders do not do.
    """
    found: dict[str, Any] = {}
    if not (folder / MODULES).exists():
        return found
    path = folder / "config_sentence_transformers.json"
    if path.exists():
        values = _values(path)
        prompts = values.get("prompts") or {}
        texts = isinstance(prompts, dict) and all(isinstance(p, str) for p in prompts.values())
        if not texts:
            _refuse(path, "prompts", "a table of texts", prompts)
        if values.get("default_prompt_name") is not None:
            _refuse(path, "default_prompt_name", "null", values["default_prompt_name"])
        similarity = values.get("similarity_fn_name") or "cosine"
        if similarity not in ("cosine", "dot"):
            _refuse(path, "similarity_fn_name", "cosine or dot", similarity)
        found |= {"prompts": prompts, "similarity_name": similarity}
    most = _longest(folder)
    return found if most is None else {**found, "max_tokens": most}


def _longest(folder: Path) -> int | None:
    """Return where texts are cut: as older versions say it, or else the tokenizer does."""
    path = folder / "sentence_bert_config.json"
    if path.exists() and (most := _values(path).get("max_seq_length")) is not None:
        if type(most) is not int or most < 1:
            _refuse(path, "max_seq_length", "an integer >= 1", most)
        return most
    path = folder / "tokenizer_config.json"
    most = _values(path, 2**24, 2**20).get("model_max_length") if path.exists() else None
    return most if type(most) is int and most >= 1 else None


def _places(listed: Any, where: Path) -> dict[str, str]:
    """Return the folder of each module, by its kind."""
    found: dict[str, str] = {}
    for module in listed if isinstance(listed, list) else ():
        kind = module.get("type") if isinstance(module, Mapping) else None
        path = module.get("path") if isinstance(module, Mapping) else None
        kind = kind.rpartition(".")[2] if isinstance(kind, str) else kind
        if not isinstance(path, str) or "/" in path or path in (".", ".."):
            _refuse(where, "path", "the name of a folder beside it", path)
        if kind not in _ORDER or (found and kind in found):
            _refuse(where, "type", f"one each of {', '.join(_ORDER)}", kind)
        found[kind] = path
    order = [kind for kind in _ORDER if kind in found]
    if list(found) != order or order[:2] != list(_ORDER[:2]) or found["Transformer"]:
        _refuse(where, "modules", f"{', '.join(_ORDER)}, the first in this folder", list(found))
    return found


def _pooling(folder: Path) -> str:
    values = _values(path := folder / "config.json")
    named = values.get("pooling_mode")
    modes = [
        ours
        for ours, (flag, name) in POOLINGS.items()
        if named == name or (named is None and values.get(flag) is True)
    ]
    flags = [key for key, value in values.items() if key.startswith("pooling_mode_") and value]
    if len(modes) != 1 or (named is None and len(flags) != 1):
        _refuse(path, "pooling", f"one of {', '.join(POOLINGS)}", named or flags)
    if values.get("include_prompt", True) is not True:
        _refuse(path, "include_prompt", "true", values["include_prompt"])
    return modes[0]


def _dense(folder: Path) -> tuple[int, TensorFile]:
    values = _values(path := folder / "config.json")
    if values.get("bias", True) is not False:
        _refuse(path, "bias", "false", values.get("bias", True))
    activation = values.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not str(activation).endswith(".Identity"):
        _refuse(path, "activation_function", "the identity", activation)
    size = values.get("out_features")
    if type(size) is not int or size < 1:
        _refuse(path, "out_features", "an integer >= 1", size)
    file = TensorFile(folder / "model.safetensors", _REFUSAL, follow=True)
    if list(file) != [LINEAR]:
        _refuse(folder / "model.safetensors", "arrays", LINEAR, ", ".join(file))
    return size, file


def _values(path: Path, most: int = _BYTES, max_values: int = _VALUES) -> dict[str, Any]:
    with RegularFile(path, _REFUSAL, follow=True) as file:
        return parse_json(file.read(most), path, _REFUSAL, max_values=max_values, max_depth=8)


def _refuse(path: Path, key: str, expected: str, got: object) -> NoReturn:
    raise CheckpointError(
        f"{path}: {key}: expected {expected}, which encoders here have, got {show(got)}; use "
        "another model"
    )


@final
class _Joined(StreamedArrays):
    """Arrays of a model, and the projection from a file of its own."""

    def __init__(self, arrays: Mapping[str, Array], dense: TensorFile) -> None:
        self._arrays, self._dense = arrays, dense

    def _place(self, name: str) -> tuple[Mapping[str, Array], str]:
        return (self._dense, LINEAR) if name == _PROJECTION else (self._arrays, name)

    def kind(self, name: str) -> Kind:
        """Return shape and type of an array without making it."""
        return kind_of(*self._place(name))

    def pieces(self, name: str) -> Iterator[Piece]:
        """Yield an array in pieces."""
        yield from pieces_of(*self._place(name))

    def __getitem__(self, name: str) -> Array:
        arrays, known = self._place(name)
        return arrays[known]

    def __iter__(self) -> Iterator[str]:
        yield from self._arrays
        yield _PROJECTION

    def __len__(self) -> int:
        return len(self._arrays) + 1
