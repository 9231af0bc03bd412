"""Windows of tokens over a UTF-8 text file, and reading and splitting such a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from tisslm.contracts import Dataset, Rows, Tokenizer
from tisslm.datasets.tokens import TokenDataset
from tisslm.errors import ConfigError, DataError

__all__ = ["TextDataset", "read_text", "split_text"]

IntArray = NDArray[Any]
Data = TypeVar("Data", str, list[int], NDArray[Any])


def read_text(path: str | PathLike[str]) -> str:
    r"""Read a UTF-8 text file unchanged, except that a byte order mark at the start is removed.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    str
        At least one character.

    Raises
    ------
    DataError
        If the file is missing, a directory, unreadable or empty, or is not UTF-8; the message
        then names the byte, its offset from 0 and its line from 1.
    """
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of a UTF-8 text file") from None
    except IsADirectoryError:
        raise DataError(
            f"{path}: expected a text file, got a directory; give the path of one UTF-8 text file"
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: expected UTF-8 text, got byte 0x{raw[error.start]:02x} at offset "
            f"{error.start} (line {line}); convert the file, for example with iconv -t UTF-8"
        ) from None
    if not text:
        raise DataError(f"{path}: expected a text, got an empty file; give a file with text in it")
    return text


def split_text(data: Data, valid_fraction: float = 0.1) -> tuple[Data, Data]:
    """Split a text, or its tokens, into a first part to train on and a last part to validate on.

    The first part has ``int(len(data) * (1 - valid_fraction))`` characters or tokens, as in
    nanoGPT's preparation of its data.

    Parameters
    ----------
    data : str, list of int, or ndarray of shape (n,)
    valid_fraction : float
        At least 0 (nothing to validate on) and below 1.

    Returns
    -------
    train, valid
        Two pieces of the type of ``data``, which together are the whole of it. Either may be empty.

    Raises
    ------
    ConfigError
        If ``valid_fraction`` is out of bounds.
    """
    if not 0.0 <= valid_fraction < 1.0:
        raise ConfigError(
            f"valid_fraction: expected a number of at least 0 and below 1, got {valid_fraction!r}"
        )
    cut = int(len(data) * (1.0 - valid_fraction))
    return data[:cut], data[cut:]


class TextDataset(Dataset):
    """Windows over the tokens of one UTF-8 text file.

    The windows are those of ``TokenDataset`` over ``tokenizer.encode_array(read_text(path))``.

    Parameters
    ----------
    path : str or path-like
    tokenizer : Tokenizer
    seq_len : int, optional
        T, at least 1. When left out, ``seq_len`` is 0 until one is assigned, which the Trainer
        does with the model's.
    batch_size, seed : int, optional
        What iteration over the dataset uses; the Trainer fills them in when left out.

    Raises
    ------
    DataError
        If the file cannot be read as text, the tokenizer refuses it, or it is too short.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        tokenizer: Tokenizer,
        seq_len: int | None = None,
        *,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.tokenizer: Tokenizer = tokenizer
        self.vocab_size = tokenizer.vocab_size
        self.batch_size = batch_size
        self.seed = seed
        text = read_text(path)
        try:
            self.tokens = tokenizer.encode_array(text)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        self._windows: TokenDataset | None = None
        if seq_len is not None:
            self.seq_len = seq_len

    @property
    def seq_len(self) -> int:
        """T of every window, 0 until it is set; assigning it cuts the text anew."""
        return 0 if self._windows is None else self._windows.seq_len

    @seq_len.setter
    def seq_len(self, seq_len: int) -> None:
        try:
            self._windows = TokenDataset(self.tokens, seq_len, vocab_size=self.vocab_size)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error

    def _cut(self) -> TokenDataset:
        if self._windows is None:
            raise ConfigError(
                f"{self.path}: seq_len is not set; give it to the constructor, "
                "or build a Trainer with this dataset first"
            )
        return self._windows

    def __len__(self) -> int:
        return len(self._cut())

    @property
    def nbytes(self) -> int:
        """The bytes of the tokens."""
        return self.tokens.nbytes

    def window(self, i: int) -> Rows:
        """Return inputs x and targets y of window ``i``, int32 arrays of shape (T,)."""
        return self._cut().window(i)

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """Return the keyed permutation of an epoch; indexing it takes constant time."""
        return self._cut().order(seed, epoch)

    def batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Rows]:
        """Yield batches without end, epoch after epoch, from batch number ``start`` on.

        Yields
        ------
        Rows
            Of int32 arrays x and y of shape (B, T).
        """
        return self._cut().batches(batch_size, seed, start)

    def stream(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Rows]:
        """Yield what ``batches`` does, in two sets of arrays that take turns.

        If a subclass defines ``batches``, that method is used.
        """
        if type(self).batches is not TextDataset.batches:
            return self.batches(batch_size, seed, start)
        return self._cut().stream(batch_size, seed, start)

    def stream_part(self, batch_size: int, seed: int, start: int, part: range) -> Iterator[Rows]:
        """Yield some rows of each batch, and make no others.

        A subclass that defines ``batches`` or ``stream`` is read by that.
        """
        own, base = type(self), TextDataset
        if own.batches is not base.batches or own.stream is not base.stream:
            return super().stream_part(batch_size, seed, start, part)
        return self._cut().stream_part(batch_size, seed, start, part)
