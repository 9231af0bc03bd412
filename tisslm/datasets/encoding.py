"""Encoding documents to token ids in memory.

Ids that do not fit in memory go to shards (``tisslm.workflows.tokenize``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.contracts.part_names import name_of
from tisslm.datasets.documents import Document, IntArray, TokenDocuments, check_tokens
from tisslm.errors import ConfigError, DataError

__all__ = [
    "BadConversationError",
    "DocumentEncoder",
    "GrowingArray",
    "encode_chat",
    "encode_document",
    "encode_documents",
]


def encode_document(
    document: Document, tokenizer: Tokenizer, *, mask_prompt: bool = True, ended: bool = True
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Encode a document to token ids, between the tokenizer's beginning and its end of text.

    Each piece is encoded by itself, so that no token belongs to two pieces. A conversation is
    encoded by the tokenizer's chat template, and nothing is put around it.

    Parameters
    ----------
    document : Document
    tokenizer : Tokenizer
    mask_prompt : bool
        False makes targets of all pieces.
    ended : bool
        False leaves out the end of text.

    Returns
    -------
    ids : integer array of shape (n,)
    learn : bool array of shape (n,)
        Whether each token may be a target: the beginning never is, the end of text if the last
        piece is.

    Raises
    ------
    DataError
        If the tokenizer refuses the text; the message says where it is.
    """
    if document.messages is not None:
        chat_ids, said = encode_chat(document.messages, document.where, tokenizer)
        return chat_ids, said if mask_prompt else np.ones(len(said), bool)
    ids: list[IntArray] = []
    learn: list[NDArray[np.bool_]] = []
    if tokenizer.begin:
        ids.append(_marks(tokenizer.begin))
        learn.append(np.zeros(len(tokenizer.begin), bool))
    try:
        for text, target in document.pieces:
            piece = tokenizer.encode_array(text)
            ids.append(piece)
            learn.append(np.full(len(piece), target or not mask_prompt))
    except DataError as error:
        raise DataError(f"{document.where}: {error}") from error
    end = tokenizer.end_of_text if ended else None
    if end is not None:
        ids.append(_marks((end,)))
        learn.append(np.array([not mask_prompt or document.pieces[-1][1]]))
    return np.concatenate(ids), np.concatenate(learn)


def encode_chat(
    messages: Sequence[Mapping[str, str]], where: str, tokenizer: Tokenizer
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Encode a conversation; return its ids, and which of them the assistant says.

    Raises
    ------
    ConfigError
        If the tokenizer has no chat template.
    BadConversationError
        If the template refuses the conversation.
    """
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"{where}: expected a tokenizer with a chat template for a conversation, got "
            f'{name_of(tokenizer)} without one; set data.chat = "plain" (--chat plain) to '
            "write roles and contents as they are, or take the tokenizer of a model that was made "
            "for conversations"
        )
    try:
        return tokenizer.encode_chat(messages)
    except DataError as error:
        raise BadConversationError(f"{where}: {error}") from error


class BadConversationError(DataError):
    """A conversation that the chat template refuses: a bad record."""


def _marks(ids: Sequence[int]) -> IntArray:
    """Return ids around a text in the smallest type, so that those of the text keep theirs."""
    return np.array(ids, dtype=np.min_scalar_type(max(ids)))


def encode_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    mask_prompt: bool = True,
    where: str = "documents",
    refuse: Callable[[str], None] | None = None,
) -> TokenDocuments:
    """Encode documents to token ids, with 1, 2 or 4 bytes per token as the vocabulary needs.

    Documents without a token are left out.

    Parameters
    ----------
    documents : iterable of Document
    tokenizer : Tokenizer
    mask_prompt : bool
        False makes targets of all pieces.
    where : str
        What messages begin with.
    refuse : callable, optional
        As for ``DocumentEncoder``.

    Raises
    ------
    ConfigError
        If a conversation is to be encoded, and the tokenizer has no chat template.
    DataError
        If the tokenizer refuses a text, or there is no token at all.
    """
    encoder = DocumentEncoder(tokenizer, mask_prompt=mask_prompt, refuse=refuse)
    for document in documents:
        encoder.add(document)
    return encoder.finish(where)


class DocumentEncoder:
    """An encoder that takes documents one by one and returns their token ids together at the end.

    Parameters
    ----------
    tokenizer : Tokenizer
    mask_prompt : bool
        False makes targets of all pieces.
    ended : bool
        False leaves out the end of text.
    refuse : callable, optional
        Called with the message about a conversation that the chat template refuses, which is then
        left out; by default it is an error.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        mask_prompt: bool = True,
        ended: bool = True,
        refuse: Callable[[str], None] | None = None,
    ) -> None:
        self.tokenizer, self.mask_prompt, self.ended = tokenizer, mask_prompt, ended
        self._refuse = refuse
        self._tokens = GrowingArray(np.min_scalar_type(tokenizer.vocab_size - 1))
        self._offsets = GrowingArray(np.dtype(np.int64))
        self._offsets.extend([0])
        self._learn: GrowingArray | None = None  # from the first token on that is none

    def add(self, document: Document) -> None:
        """Encode and append a document; one without a token is left out, and a refused one."""
        try:
            ids, learn = encode_document(
                document, self.tokenizer, mask_prompt=self.mask_prompt, ended=self.ended
            )
        except BadConversationError as error:
            if self._refuse is None:
                raise
            self._refuse(str(error))
            return
        if not len(ids):
            return
        if self._learn is None and not learn.all():
            self._learn = GrowingArray(np.dtype(bool))
            self._learn.extend(np.ones(self._tokens.size, bool))
        if self._learn is not None:
            self._learn.extend(learn)
        self._tokens.extend(ids)
        self._offsets.extend([self._tokens.size])

    def __len__(self) -> int:
        return self._offsets.size - 1

    def finish(self, where: str) -> TokenDocuments:
        """Return all documents; nothing can be added after.

        Raises
        ------
        DataError
            If there is no token.
        """
        tokens = self._tokens.taken()
        learn = None if self._learn is None else self._learn.taken()
        check_tokens(tokens, where)
        return TokenDocuments(
            tokens, self._offsets.taken(), learn, self.tokenizer.vocab_size, where=where
        )


class GrowingArray:
    """A flat array that grows at its end, in place where the system can move its pages."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._array = np.empty(1024, dtype)
        self.size = 0

    def extend(self, values: NDArray[Any] | Sequence[int]) -> None:
        """Append values, which must fit the type."""
        size = self.size + len(values)
        if size > len(self._array):
            self._array.resize(max(size, len(self._array) * 3 // 2), refcheck=False)
        self._array[self.size : size] = values
        self.size = size

    def taken(self) -> NDArray[Any]:
        """Return the array, cut to its length; nothing can be appended afterwards."""
        self._array.resize(self.size, refcheck=False)
        return self._array
