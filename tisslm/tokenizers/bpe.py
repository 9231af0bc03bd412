"""Byte pairs by the Hugging Face tokenizers library: read a tokenizer.json, or train one.

What does not live here: the other tokenizers. The library is imported when one is built.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.tokenizers.checks import id_array, utf8_bytes
from tisslm.tokenizers.cuts import find_cuts, first_match

if TYPE_CHECKING:
    import tokenizers

__all__ = ["BpeTokenizer"]

BLOCK = 2**16  # characters handed to the trainer together: bounds its memory for long texts
N_BYTES = 256

#: Names of the token that ends a document, the first that a tokenizer has.
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")


class BpeTokenizer(Tokenizer):
    """A tokenizer that a tokenizer.json describes.

    Encoding is plain: truncation and padding that the file asks for are switched off, and no
    special tokens are put around a text. Special tokens within the text become their ids, and
    decoding writes them out.

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
        if path is not None:
            self._inner = parse(read(Path(path)), str(path))
        else:
            self._inner = parse(tokenizer_json or "", "bpe tokenizer: tokenizer_json")
        self._inner.no_truncation()
        self._inner.no_padding()
        # Ids may have gaps, so the number of entries is not a bound.
        self._vocab_size = max(self._inner.get_vocab(with_added_tokens=True).values()) + 1
        self._id_type = np.min_scalar_type(self._vocab_size)
        self._cuts = find_cuts(json.loads(self._inner.to_str()))

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
            Number of ids wanted, with the 256 bytes and the special tokens; a short text may
            not have pairs enough to reach it. Exactly one of this and ``path`` must be given.
        min_frequency : int
            A pair seen fewer times is not merged.
        special_tokens : sequence of str
            Tokens with the first ids, such as ``<|endoftext|>``.

        Raises
        ------
        ConfigError
            If both or none of ``path`` and ``vocab_size`` are given, or an option is out of
            bounds.
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
        """Train on many texts, of which none is kept, or read the tokenizer at ``path``.

        Parameters
        ----------
        texts : iterable of str
            Read once, and not at all when ``path`` is given. No pair goes across two.
        path, vocab_size, min_frequency, special_tokens
            As for ``from_text``.

        Raises
        ------
        ConfigError, DataError
            As ``from_text`` does.
        """
        if (path is None) == (vocab_size is None):
            raise ConfigError(
                "bpe tokenizer: expected either path or vocab_size, got "
                f"{'none' if path is None else 'both'}; set path to a tokenizer.json to read, or "
                "vocab_size to train one on the training text"
            )
        if vocab_size is None:
            return cls(path=path)
        return cls(tokenizer_json=train(texts, vocab_size, min_frequency, special_tokens))

    @property
    def vocab_size(self) -> int:
        """The largest id plus one."""
        return self._vocab_size

    @property
    def end_of_text(self) -> int | None:
        """The id of ``<|endoftext|>``, or of what other tokenizers call it; None without one."""
        ids = (self._inner.token_to_id(name) for name in END_OF_TEXT)
        return next((number for number in ids if number is not None), None)

    def encode(self, text: str) -> list[int]:
        """Turn text into token ids.

        Raises
        ------
        DataError
            If the text has a lone surrogate.
        """
        utf8_bytes(text, "bpe tokenizer")
        # The batch form leaves out the offsets, which halves the time.
        ids: list[int] = self._inner.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def encode_array(self, text: str) -> NDArray[Any]:
        """Turn text into an array of shape (n,) of the smallest unsigned type that holds V."""
        return np.asarray(self.encode(text), dtype=self._id_type)

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[Any]]:
        """Turn each text into an array as ``encode_array`` does, on all cores.

        The library's threads take a text each, and share nothing but words that they have met;
        texts of a few thousand characters keep them busy. ``RAYON_NUM_THREADS`` limits them, and
        ``TOKENIZERS_PARALLELISM=false`` switches them off.
        """
        for text in texts:
            if not text.isascii():
                utf8_bytes(text, "bpe tokenizer")
        encoded = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, dtype=self._id_type) for one in encoded]

    def find_cut(self, text: str, start: int) -> int:
        """Return the first safe place from ``start`` on: before a space or a line's end."""
        return first_match(self._cuts, text, start)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn token ids into text, with U+FFFD where bytes are no UTF-8.

        Raises
        ------
        DataError
            If an id is not in ``range(vocab_size)``.
        """
        known = id_array(ids, self._vocab_size, "bpe tokenizer").tolist()
        text: str = self._inner.decode(known, skip_special_tokens=False)
        return text

    def json_text(self) -> str:
        """Return the content of a tokenizer.json, indented."""
        text: str = self._inner.to_str(pretty=True)
        return text

    def state(self) -> dict[str, Any]:
        """Return ``{"tokenizer": content}``; the content, written as JSON, is a tokenizer.json."""
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
                f"another ({error.__cause__ or error}); the checkpoint is damaged, use an earlier "
                "one"
            ) from error


def read(path: Path) -> str:
    """Read a tokenizer.json as text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(
            f"{path}: cannot be read ({reason}); set the tokenizer's path to a tokenizer.json, "
            "the format of the Hugging Face tokenizers library"
        ) from error


def parse(content: str, where: str) -> tokenizers.Tokenizer:
    """Build the library's tokenizer from the content of a tokenizer.json."""
    import tokenizers

    try:
        inner = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing more special
        raise DataError(
            f"{where}: expected a tokenizer.json of the Hugging Face tokenizers library, got "
            f"something else ({error}); export it again with tokenizer.save(path)"
        ) from error
    if inner.get_vocab_size(with_added_tokens=True) == 0:
        raise DataError(
            f"{where}: expected a tokenizer with at least one token, got an empty vocabulary; "
            "train the tokenizer before saving it"
        )
    return inner


def check_options(vocab_size: int, min_frequency: int, special_tokens: Sequence[str]) -> None:
    """Refuse options that the library would crash on, or take for something else."""
    names = [] if isinstance(special_tokens, str) else list(special_tokens)
    if isinstance(special_tokens, str) or not all(isinstance(n, str) and n for n in names):
        raise ConfigError(
            f"bpe tokenizer: expected special_tokens as a list of texts, got {special_tokens!r}; "
            "write them as ['<|endoftext|>']"
        )
    least = N_BYTES + len(set(names))
    if not isinstance(vocab_size, int) or vocab_size < least:
        raise ConfigError(
            f"bpe tokenizer: expected vocab_size as an integer of at least {least} (the bytes and "
            f"the special tokens), got {vocab_size!r}; raise it"
        )
    if not isinstance(min_frequency, int) or min_frequency < 1:
        raise ConfigError(
            f"bpe tokenizer: expected min_frequency as an integer >= 1, got {min_frequency!r}; "
            "2 leaves out pairs that occur once"
        )


def train(
    texts: Iterable[str], vocab_size: int, min_frequency: int, special_tokens: Sequence[str]
) -> str:
    """Train a byte-level tokenizer and return the content of its tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    check_options(vocab_size, min_frequency, special_tokens)
    blocks = text_blocks(texts)
    first = next(blocks, None)
    if first is None:
        raise DataError(
            "bpe tokenizer: expected a training text, got an empty one; "
            "give a text with at least one character"
        )
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(itertools.chain((first,), blocks), trainer)
    content: str = inner.to_str()
    return content


def text_blocks(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts in blocks that are handed to the trainer one by one."""
    for text in texts:
        utf8_bytes(text, "bpe tokenizer")
        for start in range(0, len(text), BLOCK):
            yield text[start : start + BLOCK]
