"""Arrays of ours by the names there, and arrays from there by our names.

Each is made when it is asked for, and checked before: names and shapes of all, in the words of the
file that they are from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.config.model import TransformerConfig
from tisslm.errors import CheckpointError
from tisslm.models.huggingface.entries import Entry, entries_of
from tisslm.models.huggingface.names import FAMILIES
from tisslm.system.safe_files import show
from tisslm.system.tensor_files import Kind, Piece, StreamedArrays, kind_of, pieces_of

__all__ = ["Inward", "Outward", "zeros_hold"]

Array = NDArray[Any]

_HEAD, _TOKENS = "head.weight", "embedding.token.weight"

#: Types of weights; uint16 has bfloat16's bits.
_TYPES = ("float16", "float32", "float64", "uint16")


@final
class Outward(StreamedArrays):
    """The parameters of a model by the names of its family there.

    Parameters
    ----------
    config : TransformerConfig
    arrays : mapping of str to ndarray
        By our names; read when they are asked for.
    """

    def __init__(self, config: TransformerConfig, arrays: Mapping[str, Array]) -> None:
        family = FAMILIES[config.family]
        self._arrays = arrays
        self._entries = {e.theirs: e for e in entries_of(config, f"{family.prefix}.")}
        if not config.tie_embeddings:
            self._entries |= {(head := _head(config, family.head[0])).theirs: head}
        self._zeros = kind_of(arrays, _TOKENS)[1]

    def kind(self, name: str) -> Kind:
        """Return shape and type of an array without making it."""
        entry = self._entries[name]
        return entry.shape, kind_of(self._arrays, entry.ours)[1] if entry.ours else self._zeros

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        if not entry.ours:
            return np.zeros(entry.shape, self._zeros)
        return entry.taken(self._arrays[entry.ours])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@final
class Inward(StreamedArrays):
    """Arrays from there by our names.

    Parameters
    ----------
    config : TransformerConfig
        Whose parameters they are to be.
    arrays : mapping of str to ndarray
        By the names there, which may lack the family's prefix, as those of a model without a head
        do. A head beside tied embeddings is left out if it equals them.
    where : str
        Whose arrays they are, for messages.

    Raises
    ------
    CheckpointError
        If an array is missing, superfluous, of another shape, of a type that weights do not have,
        or not zero where the model has nothing to put it.
    """

    def __init__(self, config: TransformerConfig, arrays: Mapping[str, Array], where: str) -> None:
        self._config, self._arrays, self._where = config, arrays, where
        self._sources: dict[str, list[Entry]] = {}
        for entry in _expected(config, arrays):
            self._check(entry)
            if entry.ours:
                self._sources.setdefault(entry.ours, []).append(entry)
        self._refuse_others()
        self._kinds = {name: self._kind_of(name) for name in self._sources}

    def _check(self, entry: Entry) -> None:
        name = entry.theirs
        if name not in self._arrays:
            if entry.ours:
                raise CheckpointError(
                    f"{self._where}: expected an array {name} of shape {entry.shape}, got none; "
                    "download or save the whole model again"
                )
            return
        shape, dtype = kind_of(self._arrays, name)
        if shape != entry.shape:
            raise CheckpointError(
                f"{self._where}: expected {name} of shape {entry.shape}, by its configuration, got "
                f"{shape}; the two are of different models, download or save both again"
            )
        if dtype.name not in _TYPES:
            raise CheckpointError(
                f"{self._where}: expected {name} of float32, float16, bfloat16 or float64, got "
                f"{dtype}; save the model in one of these types"
            )
        if not entry.ours and not _is_zero(self._arrays, name):
            raise CheckpointError(
                f"{self._where}: expected zeros as {name}, since its model has no such bias, got "
                "others; give it a configuration with biases"
            )

    def _refuse_others(self) -> None:
        """Refuse arrays that are not of this model, and a head that is not the embedding."""
        config, family = self._config, FAMILIES[self._config.family]
        known = {entry.theirs for entry in _expected(config, self._arrays)}
        heads = {f"{module}.weight" for module in family.head}
        for name in self._arrays:
            if name in known or family.ignored.fullmatch(name):
                continue
            if name not in heads or not config.tie_embeddings:
                raise CheckpointError(
                    f"{self._where}: expected the arrays of a {config.family} model of "
                    f"{config.n_layer} layers, got {show(name)} besides; give it the configuration "
                    "that it was saved with"
                )
            tokens = self._sources[_TOKENS][0].theirs
            if not _equal(self._arrays, name, tokens):
                raise CheckpointError(
                    f"{self._where}: expected {name} to equal {tokens}, since its configuration "
                    "ties them, got another; set tie_word_embeddings to false in config.json"
                )

    def _kind_of(self, name: str) -> Kind:
        entries = self._sources[name]
        types = {kind_of(self._arrays, e.theirs)[1] for e in entries}
        if len(types) > 1:
            raise CheckpointError(
                f"{self._where}: expected one type of {' and '.join(e.theirs for e in entries)}, "
                f"got {' and '.join(sorted(map(str, types)))}; save the model in one type"
            )
        shape = entries[0].shape[::-1] if entries[0].part == "transposed" else entries[0].shape
        if len(entries) > 1:
            shape = (sum(e.shape[0] for e in entries), *shape[1:])
        return shape, types.pop()

    def kind(self, name: str) -> Kind:
        """Return shape and type of an array without making it."""
        return self._kinds[name]

    def __getitem__(self, name: str) -> Array:
        entries = self._sources[name]
        if entries[0].part == "whole":
            return self._arrays[entries[0].theirs]
        out = np.empty(*self._kinds[name])
        for where, values in self.pieces(name):
            out[where] = values
        return out

    def pieces(self, name: str) -> Iterator[Piece]:
        """Yield the elements of an array, those of each of its parts there in turn."""
        for entry in self._sources[name]:
            for piece in pieces_of(self._arrays, entry.theirs):
                yield entry.placed(piece)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def zeros_hold(config: TransformerConfig, arrays: Mapping[str, Array]) -> bool:
    """Return whether each array for which a model has nothing is zero or not there."""
    return all(
        entry.ours or entry.theirs not in arrays or _is_zero(arrays, entry.theirs)
        for entry in _expected(config, arrays)
    )


def _expected(config: TransformerConfig, arrays: Mapping[str, Array]) -> Iterator[Entry]:
    """Yield what a model has there, by the names that its arrays have; an untied head, too."""
    family = FAMILIES[config.family]
    prefix = f"{family.prefix}."
    yield from entries_of(config, prefix if any(n.startswith(prefix) for n in arrays) else "")
    if not config.tie_embeddings:
        yield _head(
            config, next((h for h in family.head if f"{h}.weight" in arrays), family.head[0])
        )


def _head(config: TransformerConfig, module: str) -> Entry:
    return Entry(f"{module}.weight", _HEAD, "whole", (config.vocab_size, config.n_embd))


def _is_zero(arrays: Mapping[str, Array], name: str) -> bool:
    return not any(values.any() for _, values in pieces_of(arrays, name))


def _equal(arrays: Mapping[str, Array], name: str, other: str) -> bool:
    """Return whether two arrays have the same bits, a few rows of each at a time."""
    if kind_of(arrays, name) != kind_of(arrays, other):
        return False
    pairs = zip(pieces_of(arrays, name), pieces_of(arrays, other), strict=True)
    return all(a.tobytes() == b.tobytes() for (_, a), (_, b) in pairs)
