"""Texts as ids of one flat array: with a prompt, between the tokenizer's marks, cut at the end.

Training data and the texts that a trained model embeds take this one way, so that both are the same
ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.errors import ConfigError, DataError

__all__ = ["FlatTexts", "TextIds"]

IntArray = NDArray[Any]


@dataclass(frozen=True)
class FlatTexts:
    """The ids of several texts, one after another.

    Attributes
    ----------
    ids : int32 ndarray of shape (n,)
    offsets : int64 ndarray of shape (P + 1,)
        Text p has ``ids[offsets[p]:offsets[p + 1]]``.
    """

    ids: IntArray
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """The number of ids of each text."""
        return np.diff(self.offsets)

    def text(self, place: int) -> IntArray:
        """Return the ids of one text, as a view."""
        return self.ids[self.offsets[place] : self.offsets[place + 1]]

    def __iter__(self) -> Iterator[IntArray]:
        return (self.text(place) for place in range(len(self)))


class TextIds:
    """What makes ids of texts, and counts those that were cut.

    A text is the tokenizer's beginning (the BOS of tokenizers that ask for one), prompt and text as
    one, and the end of text of tokenizers that have one: what is pooled from the last token is then
    always the same token's. The beginning of a longer text is kept, and the end of text.

    Parameters
    ----------
    tokenizer : Tokenizer
    max_tokens : int
        The most ids of a text, those around it included.

    Attributes
    ----------
    max_tokens, n_texts, n_cut : int
        The bound, how many texts there were, and how many were longer.

    Raises
    ------
    ConfigError
        If there is no room for a token of the text.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        end = tokenizer.end_of_text
        self._begin = np.array(tokenizer.begin, dtype=np.int32)
        self._end = np.array([] if end is None else [end], dtype=np.int32)
        self._tokenizer = tokenizer
        self._room = max_tokens - len(self._begin) - len(self._end)
        if self._room < 1:
            raise ConfigError(
                f"max_text_tokens: expected at least {max_tokens - self._room + 1}, a token beside "
                f"those that the tokenizer puts around a text, got {max_tokens}"
            )
        self.max_tokens = max_tokens
        self.n_texts = self.n_cut = 0
        self._fitting: set[str] = set()

    def encode(self, texts: Sequence[str], prompt: str = "") -> FlatTexts:
        """Return the ids of texts, on all cores where the tokenizer can.

        Parameters
        ----------
        texts : sequence of str
        prompt : str
            What stands before each text.

        Raises
        ------
        ConfigError
            If the prompt leaves no room for a token of a text: all texts would be the same.
        DataError
            If the tokenizer refuses a text.
        """
        if prompt and prompt not in self._fitting:
            self._check_prompt(prompt)
        found = self._tokenizer.encode_batch([prompt + text for text in texts] if prompt else texts)
        lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
        self.n_texts += len(found)
        self.n_cut += int((lengths > self._room).sum())
        pieces: list[IntArray] = []
        for ids in found:
            pieces += (self._begin, ids[: self._room], self._end)
        offsets = np.zeros(len(found) + 1, dtype=np.int64)
        around = len(self._begin) + len(self._end)
        np.cumsum(np.minimum(lengths, self._room) + around, out=offsets[1:])
        flat = np.concatenate(pieces, dtype=np.int32) if pieces else np.empty(0, np.int32)
        return FlatTexts(flat, offsets)

    def _check_prompt(self, prompt: str) -> None:
        """Refuse a prompt that fills the room of a text."""
        taken = len(self._tokenizer.encode_array(prompt))
        if taken >= self._room:
            raise ConfigError(
                f"prompt: expected one that leaves room for a text within {self._room} tokens, got "
                f"one of {taken}; shorten it, or let texts be longer"
            )
        self._fitting.add(prompt)

    def check_one(self, text: str, prompt: str, where: str) -> None:
        """Raise the error of a text of a batch that was refused, with its place."""
        try:
            self._tokenizer.encode_array(prompt + text)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error

    @property
    def cut(self) -> str:
        """A sentence about the texts that were cut, "" if none was."""
        if not self.n_cut:
            return ""
        texts = "text has" if self.n_texts == 1 else "texts have"
        return (
            f"{self.n_cut} of {self.n_texts} {texts} more than {self.max_tokens} tokens, of which "
            "the last are cut off"
        )
