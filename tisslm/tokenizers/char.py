"""The character tokenizer: one token for each distinct character of the training text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.errors import CheckpointError, ConfigError, DataError, NoTextError
from tisslm.tokenizers.checks import id_array, utf8_bytes
from tisslm.tokenizers.cuts import anywhere
from tisslm.tokenizers.huggingface import ONE_BY_ONE, published_files, tokenizer_json

__all__ = ["CharTokenizer"]

#: The first code point that takes one, two, three and four bytes in UTF-8.
UTF8_FIRST = (0, 0x80, 0x800, 0x10000)

BLOCK = 2**20  # characters encoded together: bounds the scratch memory for long texts


class CharTokenizer(Tokenizer):
    """A tokenizer whose ids are the distinct code points of a text, in ascending order.

    Parameters
    ----------
    characters : str
        The vocabulary; order and repetition do not matter.

    Attributes
    ----------
    characters : str
        The vocabulary in the order of the ids.

    Raises
    ------
    ConfigError
        If there are no characters.
    DataError
        If one is a lone surrogate.
    """

    def __init__(self, *, characters: str) -> None:
        if not isinstance(characters, str) or not characters:
            raise ConfigError(
                f"char tokenizer: expected characters as a text that is not empty, got "
                f"{characters!r}; build the tokenizer from a text with CharTokenizer.from_text"
            )
        self.characters = "".join(sorted(set(characters)))
        utf8_bytes(self.characters, "char tokenizer")
        n = len(self.characters)
        self._codes_V = code_points(self.characters)
        # By code point; n stands for "unknown", also in the last entry, for all code points above.
        self._ids = np.full(int(self._codes_V[-1]) + 2, n, dtype=np.min_scalar_type(n))
        self._ids[self._codes_V] = np.arange(n)

    @classmethod
    def from_text(cls, text: str, *, characters: str = "") -> CharTokenizer:  # type: ignore[override]
        """Build the tokenizer for a training text.

        Parameters
        ----------
        text : str
            A text whose characters become the vocabulary.
        characters : str
            Further characters of the vocabulary.

        Raises
        ------
        NoTextError
            If the text is empty.
        """
        return cls.from_texts((text,), characters=characters)

    @classmethod
    def from_texts(  # type: ignore[override]
        cls, texts: Iterable[str], *, characters: str = ""
    ) -> CharTokenizer:
        """Build the tokenizer for many training texts, read one at a time."""
        found: set[str] = set()
        for text in texts:
            found.update(text)
        if not found:
            raise NoTextError(
                "char tokenizer: expected a training text, got an empty one; "
                "give a text with at least one character"
            )
        if not isinstance(characters, str):
            raise ConfigError(
                f"char tokenizer: expected characters as a text, got {characters!r}; "
                "write them as one string"
            )
        return cls(characters="".join(found) + characters)

    @property
    def vocab_size(self) -> int:
        """The number of ids: one for each distinct character."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Encode a text to the list of its characters' ids.

        Raises
        ------
        DataError
            If the tokenizer does not know a character.
        """
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def encode_array(self, text: str) -> NDArray[Any]:
        """Encode a text to an array of shape (n,) of the smallest unsigned type that holds V.

        Raises
        ------
        DataError
            If the tokenizer does not know a character.
        """
        ids_N = np.empty(len(text), dtype=self._ids.dtype)
        for start in range(0, len(text), BLOCK):
            codes = code_points(text[start : start + BLOCK])
            ids = self._ids[np.minimum(codes, len(self._ids) - 1)]
            unknown = np.flatnonzero(ids == self.vocab_size)
            if unknown.size:
                raise self._unknown(text, start + int(unknown[0]))
            ids_N[start : start + len(ids)] = ids
        return ids_N

    def _unknown(self, text: str, place: int) -> DataError:
        return DataError(
            f"char tokenizer: the character {text[place]!r} (U+{ord(text[place]):04X}) at position "
            f"{place} is not one of the {self.vocab_size} characters of the training text; remove "
            "it, build the tokenizer from a text that has it, or use the byte tokenizer"
        )

    def count_bytes(self, ids: NDArray[Any]) -> int:
        """Count the bytes of the characters in UTF-8."""
        codes = self._codes_V[id_array(ids, self.vocab_size, "char tokenizer")]
        return int(sum((codes >= first).sum() for first in UTF8_FIRST))

    def find_cut(self, text: str, start: int) -> int:
        """Return the first place to cut from ``start`` on: characters are encoded independently."""
        return anywhere(text, start)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text.

        Raises
        ------
        DataError
            If an id is not in ``range(vocab_size)``.
        """
        codes = self._codes_V[id_array(ids, self.vocab_size, "char tokenizer")]
        return str(codes.tobytes(), "utf-32-le")

    def state(self) -> dict[str, Any]:
        """Return the characters in the order of their ids."""
        return {"characters": self.characters}

    def published(self) -> dict[str, Mapping[str, Any]]:
        """Return it as a tokenizer of words that are one character each."""
        vocabulary = {character: i for i, character in enumerate(self.characters)}
        return published_files(
            tokenizer_json(
                {"type": "WordLevel", "vocab": vocabulary, "unk_token": ""},
                splitting=ONE_BY_ONE,
                joining={"type": "Fuse"},
            )
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> CharTokenizer:
        """Build the tokenizer that ``state`` describes.

        Raises
        ------
        CheckpointError
            If ``state()`` cannot have returned the state: its order defines the ids.
        """
        characters = state.get("characters")
        if not isinstance(characters, str) or not characters or not is_increasing(characters):
            raise CheckpointError(
                "char tokenizer: expected a state with distinct characters in the order of their "
                "code points, got another; the checkpoint is damaged, use an earlier one"
            )
        return cls(characters=characters)


def code_points(text: str) -> NDArray[Any]:
    """Return the code points of a text as a uint32 array; lone surrogates count as unknown."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def is_increasing(text: str) -> bool:
    """Return True if the code points of a text are strictly increasing."""
    return bool(np.all(np.diff(code_points(text).astype(np.int64)) > 0))
