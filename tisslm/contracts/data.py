"""What a model is trained on: datasets of token windows, and the tokenizers that made them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts.part_names import name_of
from tisslm.contracts.rows import IDS, Rows, check_rows
from tisslm.contracts.stateful import Stateful
from tisslm.errors import ConfigError

__all__ = [
    "Dataset",
    "Tokenizer",
]

IntArray = NDArray[Any]
#: How many windows ``Dataset.fingerprint`` reads.
FINGERPRINT_WINDOWS = 64


class Dataset(Stateful, ABC):
    """Windows of ``seq_len`` inputs and targets, in an order that is a pure function.

    Attributes
    ----------
    seq_len : int
        T of every window; 0, the default, until the Trainer fills in the model's.
    vocab_size : int
        Ids are in ``range(vocab_size)``; 0, the default, where nobody has said so.
    tokenizer : Tokenizer or None
        By which the ids are text, if there is one.
    batch_size, seed : int or None
        What ``__iter__`` uses; the Trainer fills them in when they are None.
    epoch : int
        The epoch that the next ``__iter__`` delivers.
    """

    seq_len: int = 0
    vocab_size: int = 0
    tokenizer: Tokenizer | None = None
    batch_size: int | None = None
    seed: int | None = None
    epoch: int = 0

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of windows."""

    @abstractmethod
    def window(self, i: int) -> Rows:
        """Return ``Rows(x, y)`` of window ``i``: inputs and targets, int32 arrays of shape (T,).

        Every window or none has ``start``, too: where in the window the document of each token
        begins, so ``start[t]`` is t or ``start[t - 1]``, and 0 at 0. The model then keeps documents
        apart and counts positions from their beginnings; the target of a document's last token is
        -100, since what follows is not its next token. What a model or a loss of one's own needs
        beside these is in ``others``, by the same names in every window.

        A window of texts, for an encoder, has the ids of its K texts one after another in x, then
        padding; in y 0 where each ends and -100 elsewhere; and in ``others`` the ``lengths`` (K,)
        of the texts, int32, and their ``score`` (), float32, where there are scores.
        """

    @abstractmethod
    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """Return the keyed permutation of an epoch; indexing it takes constant time."""

    def batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Rows]:
        """Yield batches without end, epoch after epoch, from batch number ``start`` on.

        The last batch of an epoch may be smaller; none is dropped. Starting at ``start``
        takes constant time. Each batch is in new arrays.

        Yields
        ------
        Rows
            The windows stacked: arrays of shape (B, T).
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected an integer >= 1, got {batch_size}")
        per_epoch = -(-len(self) // batch_size)
        number = start
        while True:
            epoch, within = divmod(number, per_epoch)
            order = self.order(seed, epoch)
            for batch in range(within, per_epoch):
                first = batch * batch_size
                rows = range(first, min(first + batch_size, len(self)))
                yield Rows.stack([self.window(order[row]) for row in rows])
                number += 1

    def stream(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Rows]:
        """Yield what ``batches`` does, in arrays that may be written again: what training reads.

        A batch is good until the next but one is asked for; whoever keeps it longer copies it. The
        default makes new arrays, as ``batches`` does.
        """
        return self.batches(batch_size, seed, start)

    def stream_part(self, batch_size: int, seed: int, start: int, part: range) -> Iterator[Rows]:
        """Yield some rows of each batch that ``stream`` yields: what one of several ranks reads.

        The default makes the whole batch; a dataset for which that is much work overrides it.

        Parameters
        ----------
        batch_size, seed, start : int
            As for ``stream``.
        part : range
            The places of the rows in the batch. A smaller batch may lack some of them, or all:
            then the arrays have no rows, and the same shape otherwise.
        """
        for rows in self.stream(batch_size, seed, start):
            yield rows.part(part.start, part.stop)

    def fingerprint(self) -> str:
        """Return a short text by which a resumed run knows its data again.

        The default hashes the sizes and up to 64 windows, spread evenly, the first and the last
        among them: constant time, and another text does not go unnoticed. A change between those
        windows does; a dataset that has a checksum of all its tokens returns that.
        """
        digest = hashlib.sha256(f"{len(self)} {self.seq_len} {self.vocab_size}".encode())
        for place in range(FINGERPRINT_WINDOWS):
            number = place * (len(self) - 1) // (FINGERPRINT_WINDOWS - 1)
            window = check_rows(self.window(number), "dataset.window")
            for name, array in window.arrays.items():
                little = np.dtype("<i4") if name in IDS else array.dtype.newbyteorder("<")
                digest.update(np.ascontiguousarray(array, dtype=little).tobytes())
        return digest.hexdigest()[:16]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the data take, for memory plans; 0 where nobody counts them."""
        return 0

    def stream_bytes(self, batch_size: int) -> int:
        """Return the bytes of the arrays that a ``stream`` holds: two batches of int32.

        The base counts inputs and targets; a dataset with more arrays counts those, too.
        """
        rows = min(batch_size, len(self))
        return 2 * 2 * rows * self.seq_len * np.dtype(np.int32).itemsize

    def __iter__(self) -> Iterator[Rows]:
        """Yield the batches of one epoch in the Trainer's order; the next call, the next epoch."""
        if self.batch_size is None or self.seed is None:
            raise ConfigError(
                "dataset: batch_size and seed are not set; give them to the constructor, "
                "or build a Trainer with this dataset first"
            )
        epoch, self.epoch = self.epoch, self.epoch + 1
        per_epoch = -(-len(self) // self.batch_size)
        stream = self.batches(self.batch_size, self.seed, start=epoch * per_epoch)
        for _ in range(per_epoch):
            yield next(stream)


class Tokenizer(ABC):
    """A reversible map between text and token ids."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids: every id is in ``range(vocab_size)``."""

    @property
    def end_of_text(self) -> int | None:
        """The id that ends every document, None where the tokenizer has no such token."""
        return None

    @property
    def begin(self) -> tuple[int, ...]:
        """Ids before every document and every prompt: the BOS of tokenizers that ask for one."""
        return ()

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids at which generation stops: by default the end of text, if there is one."""
        return () if self.end_of_text is None else (self.end_of_text,)

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids that no message has, at which an answer in a conversation ends."""
        end = () if self.end_of_text is None else (self.end_of_text,)
        return frozenset((*self.begin, *self.ends, *end))

    @property
    def chat_template(self) -> str | None:
        """The jinja2 template that writes conversations as text, None where there is none."""
        return None

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Turn text into token ids."""

    def encode_array(self, text: str) -> IntArray:
        """Turn text into the same ids as ``encode``, as a one-dimensional integer array.

        What datasets call: a subclass may build the array, of any integer type, without the list.
        """
        return np.asarray(self.encode(text), dtype=np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[IntArray]:
        """Turn each text into ids as ``encode_array`` does; a subclass may use all cores."""
        return [self.encode_array(text) for text in texts]

    def count_bytes(self, ids: IntArray) -> int:
        """Count the bytes of UTF-8 that token ids stand for.

        The ids of ``begin`` and ``ends`` and the end of text count none. Bits per byte are per
        these. The default decodes the ids, so half a character at either end counts as U+FFFD; a
        subclass that knows the bytes of each token overrides it.

        Parameters
        ----------
        ids : integer ndarray of shape (n,)
        """
        end = self.end_of_text
        marks = {*self.begin, *self.ends, *(() if end is None else (end,))}
        kept = ids[~np.isin(ids, list(marks))] if marks else ids
        return len(self.decode(kept.tolist()).encode("utf-8", "replace"))

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], *, reply: bool = False
    ) -> tuple[IntArray, NDArray[np.bool_]]:
        """Turn a conversation into ids as ``chat_template`` writes it; nothing is put around it.

        Parameters
        ----------
        messages : sequence of mapping
            Each with ``role`` and ``content``.
        reply : bool
            Whether what introduces the assistant's next message follows.

        Returns
        -------
        ids : integer ndarray of shape (n,)
        learn : bool ndarray of shape (n,)
            True for what the assistant says, the end of its turn included.

        Raises
        ------
        ConfigError
            If the tokenizer has no template.
        DataError
            If the template refuses the conversation.
        """
        raise ConfigError(
            f"{name_of(self)}: expected a tokenizer with a chat template, got one without; "
            "use the tokenizer of a model that was made for conversations"
        )

    def find_cut(self, text: str, start: int) -> int:
        """Return the first place from ``start`` on at which a text may be cut, -1 if none is known.

        The ids of the two parts, one after another, are those of the whole, also if the text goes
        on: this is how a text larger than memory is encoded. A place is never 0 or the end.
        """
        return -1

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Turn token ids into text."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return plain JSON values from which ``from_state`` builds the same tokenizer."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any]) -> Tokenizer:
        """Build the tokenizer that ``state`` describes."""

    def published(self) -> dict[str, Mapping[str, Any]] | None:
        """Return the files by which Hugging Face's libraries read it, None if there are none.

        Returns
        -------
        dict or None
            ``tokenizer.json``, ``tokenizer_config.json`` and, if it names special ids,
            ``generation_config.json``: JSON objects by the names of their files.
        """
        return None

    @classmethod
    def from_text(cls, text: str, **options: Any) -> Tokenizer:
        """Build the tokenizer for a training text; those that learn nothing ignore the text."""
        return cls(**options)

    @classmethod
    def from_texts(cls, texts: Iterable[str], **options: Any) -> Tokenizer:
        """Build the tokenizer for many training texts, read once and in order.

        The default joins them, or leaves them alone where ``from_text`` is not overridden; a
        tokenizer that learns overrides it to hold none of them long.
        """
        if getattr(cls.from_text, "__func__", None) is Tokenizer.from_text.__func__:  # type: ignore[attr-defined]
            return cls(**options)
        return cls.from_text("".join(texts), **options)
