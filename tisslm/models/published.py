"""A model that somebody has published, whatever the form: its shape, and its weights by our names.

Folders are read in ``huggingface``, and ``Transformer.of_published`` builds the model. Weights come
in pieces and are widened one at a time, so that no second copy of one lies in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tisslm.config.model import TransformerConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.memory import Parameter, Parameters
from tisslm.models.initialization import parameter_specs
from tisslm.system.safe_files import show
from tisslm.system.tensor_files import Piece, kind_of, pieces_of

__all__ = ["Published", "fill", "shape_of"]

Array = NDArray[Any]

_POSITIONS = "embedding.position.weight"

#: What may be asked for otherwise than it was published.
_OVERRIDES = ("seq_len", "dropout")

#: What may be asked for besides of a language model, which becomes an encoder by it.
_OF_ENCODERS = ("pooling", "causal", "projection", "normalize", "logit_scale")

#: Types of weights; uint16 has bfloat16's bits.
_TYPES = ("float16", "float32", "float64", "uint16")


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes
    ----------
    settings : mapping
        Family and shape, as ``TransformerConfig`` takes them.
    arrays : mapping of str to ndarray
        Weights by our names, of float16, float32, float64, or uint16 with bfloat16's bits; read
        when they are asked for.
    where : str
        The file or folder, for messages.
    tokenizer : mapping, optional
        The state of a byte-pair tokenizer, if the source has one inside.
    """

    settings: Mapping[str, Any]
    arrays: Mapping[str, Array]
    where: str
    tokenizer: Mapping[str, Any] | None = None


def shape_of(published: Published, overrides: Mapping[str, Any]) -> TransformerConfig:
    """Return the shape of a published model, with some values replaced.

    Parameters
    ----------
    published : Published
    overrides : mapping
        ``seq_len``, smaller, or with rotary positions any; ``dropout``; of a language model also
        ``pooling``, and the keys that go with it.

    Raises
    ------
    ConfigError
        If a value is wrong, or cannot be another than the published one.
    CheckpointError
        If an array is missing, superfluous, of another shape, or of a type that weights do not
        have.
    """
    own = TransformerConfig(**published.settings)
    for key, value in overrides.items():
        learns = key == "logit_scale" and not own.logit_scale  # a temperature, where none was
        joins = key in _OF_ENCODERS and (not own.embeds or learns or getattr(own, key) == value)
        if key not in _OVERRIDES and not joins:
            raise ConfigError(
                f"model.{key}: expected what {published.where} has, since its weights are of that "
                f"shape; leave it out, only {' and '.join(_OVERRIDES)} can be others"
            )
    config = TransformerConfig(**{**published.settings, **overrides})
    most = own.seq_len
    if config.positions == "learned" and config.seq_len > most:
        raise ConfigError(
            f"model.seq_len: expected at most {most}, beyond which {published.where} has no "
            f"learned positions, got {config.seq_len}"
        )
    _check(published)
    return config


def fill(parameters: Parameters, published: Published) -> list[Parameter]:
    """Write the published weights to the parameters of a model of ``shape_of``, piece by piece.

    Returns
    -------
    list of Parameter
        Those that nobody has published: what makes an encoder of a language model, and adapters.
    """
    missing = []
    for parameter in parameters:
        if parameter.name not in published.arrays:
            missing.append(parameter)
            continue
        pieces = pieces_of(published.arrays, parameter.name)
        if parameter.name == _POSITIONS:
            pieces = _first_rows(pieces, parameter.shape[0])
        for where, values in pieces:
            parameter.fill(where, values)
    return missing


def _check(published: Published) -> None:
    """Compare all arrays with the shape that was published."""
    arrays, where = published.arrays, published.where
    names = set()
    for spec in parameter_specs(TransformerConfig(**published.settings)):
        names.add(spec.name)
        shape, dtype = kind_of(arrays, spec.name) if spec.name in arrays else (None, None)
        if shape != spec.shape:
            got = "none" if shape is None else f"one of {shape}"
            raise CheckpointError(
                f"{where}: expected an array {spec.name} of shape {spec.shape}, got {got}; "
                "download or save the whole model again"
            )
        if dtype is None or dtype.name not in _TYPES:
            raise CheckpointError(
                f"{where}: expected {spec.name} of a type out of float32, float16, bfloat16 and "
                f"float64, got {dtype}; save the model in one of these"
            )
    for name in arrays:
        if name not in names:
            raise CheckpointError(
                f"{where}: expected the arrays of its configuration, got {show(name)} besides; "
                "download or save the whole model again"
            )


def _first_rows(pieces: Iterator[Piece], count: int) -> Iterator[Piece]:
    """Yield the pieces of the first rows alone."""
    for where, values in pieces:
        rows = slice(0, len(values)) if where is ... else where
        if rows.start < count:
            yield slice(rows.start, min(rows.stop, count)), values[: count - rows.start]
