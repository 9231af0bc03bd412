"""Byte-pair tokenizers of the Hugging Face library, read from a tokenizer.json or trained.

They are trained in ``bpe_training``. The library is imported when a tokenizer is built.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.system.safe_files import Refusal, RegularFile
from tisslm.tokenizers.bpe_training import train
from tisslm.tokenizers.checks import id_array, utf8_bytes
from tisslm.tokenizers.cuts import find_cuts, first_match
from tisslm.tokenizers.json_limits import checked_content
from tisslm.tokenizers.library import refused_errors, without_panic_text
from tisslm.tokenizers.token_bytes import token_bytes

if TYPE_CHECKING:
    import tokenizers

__all__ = ["BpeTokenizer"]

#: The default number of ids of a tokenizer that is trained.
TRAINED_VOCABULARY = 4096

LONGEST_REASON = 300  # characters of the library's words in a message
LARGEST = 2**29  # bytes of a tokenizer.json: a vocabulary of 250,000 takes some 30 MB

_UNREADABLE = Refusal(
    DataError,
    "cannot be read",
    "set the tokenizer's path to a tokenizer.json, the format of the Hugging Face tokenizers "
    "library",
)

_OTHER = Refusal(
    DataError,
    "expected a tokenizer.json of the Hugging Face tokenizers library, got something else",
    "export it again with tokenizer.save(path)",
)

#: A text that is encoded once to find panics: letters, digits, signs, white space.
PROBE = "It's a Test.  42, naïve\n\n\t東京 🙂 e\u0301 русский _x1 ==\r\n \u00a0end "

#: Usual names of the token that ends a document; the first that a tokenizer has is taken.
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")


class BpeTokenizer(Tokenizer):
    """A tokenizer that is described by a tokenizer.json.

    Truncation and padding that the file asks for are switched off, and no special tokens are put
    around a text. Special tokens within the text become their ids, and decoding writes them out.

    Parameters
    ----------
    path : str or path-like, optional
        A tokenizer.json, the format of the tokenizers library.
    tokenizer_json : str, optional
        The content of such a file. Exactly one of the two must be given.

    Raises
    ------
    ConfigError
        If none or both are given.
    DataError
        If the file cannot be read, or is no tokenizer.json.

    References
    ----------
    R. Sennrich, B. Haddow, A. Birch. Neural Machine Translation of Rare Words with Subword
    Units. arXiv 1508.07909.
    """

    def __init__(
        self, *, path: str | PathLike[str] | None = None, tokenizer_json: str | None = None
    ) -> None:
        if (path is None) == (tokenizer_json is None):
            raise ConfigError(
                "bpe tokenizer: expected either path or tokenizer_json, got "
                f"{'none' if path is None else 'both'}; give one, or train a tokenizer on a text "
                "with BpeTokenizer.from_text(text, vocab_size=...)"
            )
        self._where = "bpe tokenizer" if path is None else str(path)
        if path is not None:
            self._inner = parse(read(Path(path)), str(path))
        else:
            self._inner = parse(tokenizer_json or "", "bpe tokenizer: tokenizer_json")
        # Ids may have gaps, so the number of entries is not a bound.
        self._vocab_size = max(self._inner.get_vocab(with_added_tokens=True).values()) + 1
        self._id_type = np.min_scalar_type(self._vocab_size)
        self._cuts = find_cuts(json.loads(self._inner.to_str()))
        self._lengths_V: NDArray[Any] | None = None

    @classmethod
    def from_text(  # type: ignore[override]
        cls,
        text: str,
        *,
        path: str | PathLike[str] | None = None,
        vocab_size: int | None = None,
        min_frequency: int = 2,
        special_tokens: Sequence[str] = (),
    ) -> BpeTokenizer:
        """Train a byte-level tokenizer on a text, or read the one at ``path``.

        Parameters
        ----------
        text : str
            Not used when ``path`` is given.
        path : str or path-like, optional
            A tokenizer.json to read instead of training.
        vocab_size : int, optional
            Number of ids wanted, including the 256 bytes and the special tokens; a short text may
            have too few pairs to reach it. It excludes ``path``; 4096 if neither is given.
        min_frequency : int
            Pairs that occur less often are not merged.
        special_tokens : sequence of str
            Tokens with the first ids, such as ``<|endoftext|>``.

        Raises
        ------
        ConfigError
            If both ``path`` and ``vocab_size`` are given, or an option is out of bounds.
        DataError
            If the text to train on is empty, or the file cannot be used.
        """
        return cls.from_texts(
            (text,),
            path=path,
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
        )

    @classmethod
    def from_texts(  # type: ignore[override]
        cls,
        texts: Iterable[str],
        *,
        path: str | PathLike[str] | None = None,
        vocab_size: int | None = None,
        min_frequency: int = 2,
        special_tokens: Sequence[str] = (),
    ) -> BpeTokenizer:
        """Train on many texts without keeping them, or read the tokenizer at ``path``.

        Parameters
        ----------
        texts : iterable of str
            The texts, read once, or never when ``path`` is given. Pairs do not cross texts.
        path, vocab_size, min_frequency, special_tokens
            As for ``from_text``.

        Raises
        ------
        ConfigError, DataError
            As ``from_text`` does.
        """
        if path is None:
            wanted = TRAINED_VOCABULARY if vocab_size is None else vocab_size
            return cls(tokenizer_json=train(texts, wanted, min_frequency, special_tokens))
        if vocab_size is not None:
            raise ConfigError(
                "bpe tokenizer: expected either path or vocab_size, got both; set path to a "
                "tokenizer.json to read, or vocab_size to train one on the training text"
            )
        return cls(path=path)

    @property
    def vocab_size(self) -> int:
        """The largest id plus one."""
        return self._vocab_size

    @property
    def end_of_text(self) -> int | None:
        """The id of ``<|endoftext|>`` or of another usual end token; None if there is none."""
        ids = (self._inner.token_to_id(name) for name in END_OF_TEXT)
        return next((number for number in ids if number is not None), None)

    def encode(self, text: str) -> list[int]:
        """Encode a text to token ids.

        Raises
        ------
        DataError
            If the text has a lone surrogate, or the library gives up on it.
        """
        utf8_bytes(text, "bpe tokenizer")
        # The batch form leaves out the offsets, which halves the time.
        ids: list[int] = self._encoded([text])[0].ids
        return ids

    def _encoded(self, texts: list[str]) -> list[tokenizers.Encoding]:
        with refused_errors(self._refusal("encode this text")):
            found: list[tokenizers.Encoding] = self._inner.encode_batch_fast(
                texts, add_special_tokens=False
            )
        return found

    def _refusal(self, what: str) -> Callable[[BaseException], DataError]:
        return lambda error: DataError(
            f"{self._where}: the tokenizers library cannot {what} with this tokenizer "
            f"({one_line(error)}); mend its tokenizer.json, or give it what the text needs, such "
            "as an unknown token"
        )

    def encode_array(self, text: str) -> NDArray[Any]:
        """Encode a text to an array of shape (n,) of the smallest unsigned type that holds V."""
        return np.asarray(self.encode(text), dtype=self._id_type)

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[Any]]:
        """Encode each text as ``encode_array`` does, on all cores.

        Each thread of the library takes one text at a time; texts of a few thousand characters keep
        the threads busy. ``RAYON_NUM_THREADS`` limits their number, and
        ``TOKENIZERS_PARALLELISM=false`` switches them off.
        """
        for text in texts:
            if not text.isascii():
                utf8_bytes(text, "bpe tokenizer")
        encoded = self._encoded(list(texts))
        return [np.array(one.ids, dtype=self._id_type) for one in encoded]

    def count_bytes(self, ids: NDArray[Any]) -> int:
        """Count the bytes of the tokens; they are decoded if the vocabulary is not byte-level."""
        if self._lengths_V is None:
            description = json.loads(self._inner.to_str())
            self._lengths_V = token_bytes(self._inner, description, self.end_of_text)
        if not self._lengths_V.size:
            return super().count_bytes(ids)
        return int(self._lengths_V[id_array(ids, self._vocab_size, "bpe tokenizer")].sum())

    def find_cut(self, text: str, start: int) -> int:
        """Return the first safe place to cut from ``start`` on: before a space or a line end."""
        return first_match(self._cuts, text, start)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode token ids to text, with U+FFFD where bytes are not valid UTF-8.

        Raises
        ------
        DataError
            If an id is not in ``range(vocab_size)``.
        """
        known = id_array(ids, self._vocab_size, "bpe tokenizer").tolist()
        with refused_errors(self._refusal("decode these ids")):
            text: str = self._inner.decode(known, skip_special_tokens=False)
        return text

    def json_text(self) -> str:
        """Return the content of a tokenizer.json, indented."""
        text: str = self._inner.to_str(pretty=True)
        return text

    def state(self) -> dict[str, Any]:
        """Return ``{"tokenizer": content}``, the content of a tokenizer.json."""
        return {"tokenizer": json.loads(self._inner.to_str())}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> BpeTokenizer:
        """Build the tokenizer that ``state`` describes.

        Raises
        ------
        CheckpointError
            If the state holds no usable tokenizer.
        """
        try:
            return cls(tokenizer_json=json.dumps(state.get("tokenizer")))
        except DataError as error:
            raise CheckpointError(
                "bpe tokenizer: expected a state with the content of a tokenizer.json, got "
                f"another ({one_line(error.__cause__ or error)}); the checkpoint is damaged, use "
                "an earlier one"
            ) from error


def read(path: Path) -> str:
    """Read a tokenizer.json as text."""
    try:
        with RegularFile(path, _UNREADABLE, follow=True) as file:
            return file.read(LARGEST).decode("utf-8")
    except UnicodeDecodeError:
        raise _UNREADABLE(path, "it is not UTF-8") from None


def parse(content: str, where: str) -> tokenizers.Tokenizer:
    """Build the library's tokenizer from the content of a tokenizer.json, and try it."""
    import tokenizers

    checked_content(content, where, _OTHER)
    with without_panic_text(), refused_errors(lambda error: _OTHER(where, one_line(error))):
        inner = tokenizers.Tokenizer.from_str(content)
        inner.no_truncation()
        inner.no_padding()
        _try(inner)
    if inner.get_vocab_size(with_added_tokens=True) == 0:
        raise DataError(
            f"{where}: expected a tokenizer with at least one token, got an empty vocabulary; "
            "train the tokenizer before saving it"
        )
    return inner


def _try(inner: tokenizers.Tokenizer) -> None:
    """Encode and decode once, to find parts that panic; refusing the text is no error."""
    try:
        ids = inner.encode_batch_fast([PROBE], add_special_tokens=False)[0].ids
        inner.decode(ids, skip_special_tokens=False)
    except Exception:  # it may have no token for what is not in its texts
        return


def one_line(error: BaseException) -> str:
    """Return the message of an error of the library in one short line."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
