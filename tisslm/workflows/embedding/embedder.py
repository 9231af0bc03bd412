"""A trained encoder with its tokenizer: texts in, vectors out.

It is loaded by ``loading``; files of texts are embedded by ``files``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tisslm.contracts import Encoder, TextBatch, Tokenizer
from tisslm.contracts.options import count
from tisslm.datasets.examples import FlatTexts, TextIds
from tisslm.errors import ConfigError, DataError, NonFiniteError
from tisslm.workflows.embedding.similarity import similarity, to_length_one
from tisslm.workflows.tokenize.ahead import ahead

__all__ = ["TextEmbedder"]

Array = NDArray[Any]

#: Tokens of a pass, unless ``batch_size`` says how many texts: enough to fill the kernels.
TOKENS = 4096

#: Texts, and characters of them, that are tokenized and sorted together.
CHUNK_TEXTS, CHUNK_CHARACTERS = 2048, 2**22

#: Chunks that are tokenized ahead of the passes.
DEPTH = 2


class TextEmbedder:
    """An encoder that takes texts.

    A vector depends on its text alone; texts lie side by side in the rows of a pass, with no
    padding between. The next texts are tokenized, on all cores, while the kernels compute. Several
    threads may call it at once; their passes take turns.

    Parameters
    ----------
    model : Encoder
    tokenizer : Tokenizer
    prompts : mapping of str to str
        What is written before texts: under "query" before queries, under "document" before
        documents.
    max_tokens : int, optional
        Longer texts are cut at their end; by default the model's ``seq_len``.
    normalized : bool
        Whether the model's vectors have length 1, so that shortened ones are brought to it, too.
    similarity_name : {"cosine", "dot"}
        What ``similarity`` computes.

    Attributes
    ----------
    n_texts, n_cut : int
        Texts of all calls, and how many of them were cut.

    Raises
    ------
    ConfigError
        If an argument is out of bounds.
    """

    def __init__(
        self,
        model: Encoder,
        tokenizer: Tokenizer,
        *,
        prompts: Mapping[str, str] = MappingProxyType({}),
        max_tokens: int | None = None,
        normalized: bool = True,
        similarity_name: str = "cosine",
    ) -> None:
        if similarity_name not in ("cosine", "dot"):
            raise ConfigError(
                f'similarity: expected "cosine" or "dot", got {similarity_name!r}; choose one'
            )
        self.model, self.tokenizer = model, tokenizer
        self.prompts = dict(prompts)
        self.normalized = normalized
        self.similarity_name = similarity_name
        most = model.seq_len if max_tokens is None else min(max_tokens, model.seq_len)
        self._ids = TextIds(tokenizer, most)
        # callers in several threads share buffers of the model, and the counts of texts
        self._in_pass, self._in_ids = threading.Lock(), threading.Lock()

    @property
    def embedding_size(self) -> int:
        """The numbers of a vector."""
        return self.model.embedding_size

    @property
    def n_texts(self) -> int:
        """The texts of all calls."""
        return self._ids.n_texts

    @property
    def n_cut(self) -> int:
        """How many texts were longer than the model takes, and lost their end."""
        return self._ids.n_cut

    @property
    def cut(self) -> str:
        """A sentence about the texts that were cut, "" if none was."""
        return self._ids.cut

    # ------------------------------------------------------------------ texts to vectors

    def encode(
        self,
        texts: str | Sequence[str],
        batch_size: int | None = None,
        *,
        prompt: str = "",
        normalize: bool | None = None,
        dimensions: int | None = None,
    ) -> Array:
        """Return the vectors of texts.

        Parameters
        ----------
        texts : str or sequence of str
        batch_size : int, optional
            Texts of a pass; by default as many as have 4096 tokens together.
        prompt : str
            What is written before each text; ``encode_query`` and ``encode_document`` write the
            model's own.
        normalize : bool, optional
            True brings every vector to length 1. By default shortened vectors are brought to it if
            the whole ones have it.
        dimensions : int, optional
            Only so many numbers of each vector, the first ones: for a model that was trained with
            ``dimensions``.

        Returns
        -------
        ndarray of shape (P, E), or (E,) for one str; float32, or float64 for a model of that

        Raises
        ------
        ConfigError
            If ``batch_size`` or ``dimensions`` is out of bounds.
        DataError
            If a text is empty, or the tokenizer refuses it.
        NonFiniteError
            If a vector is not finite.
        """
        many = [texts] if isinstance(texts, str) else _listed(texts)
        size = self._size(dimensions)
        found = np.empty((len(many), size), dtype=self.model.parameters.dtype)
        options: dict[str, Any] = {"prompt": prompt, "normalize": normalize, "dimensions": size}
        done = 0
        for part in self.encode_stream(many, batch_size, **options):
            found[done : done + len(part)] = part
            done += len(part)
        return found[0] if isinstance(texts, str) else found

    def encode_query(self, texts: str | Sequence[str], **options: Any) -> Array:
        """Return the vectors of queries, with the prompt of queries; options of ``encode``."""
        return self.encode(texts, **{"prompt": self.prompts.get("query", ""), **options})

    def encode_document(self, texts: str | Sequence[str], **options: Any) -> Array:
        """Return the vectors of documents, with the prompt of these; options of ``encode``."""
        return self.encode(texts, **{"prompt": self.prompts.get("document", ""), **options})

    def similarity(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return how alike each vector of ``a`` is to each of ``b``: the cosine, or dot product.

        Parameters
        ----------
        a, b : ndarray of shape (P, E) and (Q, E), or (E,)

        Returns
        -------
        ndarray of shape (P, Q), float32, or float64 of vectors of that

        Raises
        ------
        ShapeError
            If the vectors are of different lengths, or no numbers.
        """
        return similarity(a, b, self.similarity_name)

    def encode_stream(
        self,
        texts: Iterable[str],
        batch_size: int | None = None,
        *,
        prompt: str = "",
        normalize: bool | None = None,
        dimensions: int | None = None,
    ) -> Iterator[Array]:
        """Yield the vectors of texts some at a time, in their order, in constant memory.

        Parameters
        ----------
        texts : iterable of str
            Read in a thread, ahead of the passes.
        batch_size, prompt, normalize, dimensions
            As for ``encode``.

        Yields
        ------
        ndarray of shape (P, E)

        Raises
        ------
        ConfigError, DataError, NonFiniteError
            As ``encode`` does.
        """
        if batch_size is not None:
            batch_size = count("batch_size", batch_size, 1)
        if not isinstance(prompt, str):
            raise ConfigError(f"prompt: expected a str, got {type(prompt).__name__}")
        size = self._size(dimensions)
        shortened = size < self.embedding_size and self.normalized
        to_one = shortened if normalize is None else normalize
        done = 0
        with closing(ahead(self._tokenized(texts, prompt), DEPTH)) as chunks:
            for chunk in chunks:
                found = self._embed(chunk, batch_size)[:, :size]
                _check_vectors(found, done)
                done += len(found)
                if to_one:
                    found = np.ascontiguousarray(found)
                    to_length_one(found)
                yield found

    def _size(self, dimensions: object) -> int:
        """Return how many numbers of a vector are kept."""
        whole = self.embedding_size
        if dimensions is None:
            return whole
        wanted = count("dimensions", dimensions, 1)
        if wanted > whole:
            raise ConfigError(
                f"dimensions: expected from 1 to {whole}, the numbers of the model's vectors, got "
                f"{wanted}"
            )
        return wanted

    def _tokenized(self, texts: Iterable[str], prompt: str) -> Iterator[FlatTexts]:
        """Yield the ids of some texts at a time."""
        done = 0
        for chunk in _chunks(texts):
            for place, text in enumerate(chunk, done):
                _check_text(text, place)
            try:
                with self._in_ids:
                    found = self._ids.encode(chunk, prompt)
            except DataError:
                for place, text in enumerate(chunk, done):
                    self._ids.check_one(text, prompt, f"text {place}")
                raise
            if not found.lengths.all():
                place = done + int(np.argmin(found.lengths))
                raise DataError(f"text {place}: expected a token in it, got none; leave it out")
            done += len(chunk)
            yield found

    def _embed(self, chunk: FlatTexts, batch_size: int | None) -> Array:
        """Return the vectors of some texts; the short ones are embedded first."""
        order = np.argsort(chunk.lengths, kind="stable")
        ends = np.cumsum(chunk.lengths[order])
        found = np.empty((len(chunk), self.embedding_size), dtype=self.model.parameters.dtype)
        first = 0
        while first < len(order):
            if batch_size is None:
                begin = int(ends[first - 1]) if first else 0
                stop = max(first + 1, int(np.searchsorted(ends, begin + TOKENS, "right")))
            else:
                stop = min(first + batch_size, len(order))
            numbers = order[first:stop]
            texts = TextBatch.pack([chunk.text(n) for n in numbers], self.model.seq_len)
            with self._in_pass:
                found[numbers] = self.model.embed(texts)[0]
            first = stop
        return found


def _listed(texts: Sequence[str]) -> Sequence[str]:
    """Return texts that have a number and an order."""
    if hasattr(texts, "__len__") and not isinstance(texts, bytes | Set | Mapping):
        return texts
    raise DataError(
        f"texts: expected a str or a list of them, got {type(texts).__name__}; give a list, or "
        "any iterable to encode_stream"
    )


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in lists that are neither long nor of many characters."""
    source = iter(texts)
    chunk: list[str] = []
    characters = 0
    for text in source:
        chunk.append(text)
        characters += len(text) if isinstance(text, str) else 0
        if len(chunk) == CHUNK_TEXTS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _check_vectors(found: Array, first: int) -> None:
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        raise NonFiniteError(
            f"text {first + int(np.argmin(finite))}: the model made a vector that is not finite, "
            "so its weights are damaged or too large; take another checkpoint"
        )


def _check_text(text: object, place: int) -> None:
    if not isinstance(text, str):
        raise DataError(f"text {place}: expected a str, got {type(text).__name__}; leave it out")
    if not text.strip():
        raise DataError(f"text {place}: expected a text, got an empty one; leave it out")
