"""Byte-pair tokenizers of the Hugging Face library, read from files or trained.

They are trained in ``bpe_training``; files are read in ``tokenizer_json`` and ``huggingface``. The
library is imported when a tokenizer is built.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.tokenizers.bpe_training import train
from tisslm.tokenizers.chat import Conversations
from tisslm.tokenizers.checks import id_array, utf8_bytes
from tisslm.tokenizers.cuts import cut_text, find_cuts, first_match
from tisslm.tokenizers.huggingface import published_files, read_folder
from tisslm.tokenizers.rust_errors import refused_errors
from tisslm.tokenizers.settings import END_OF_TEXT, TokenizerSettings
from tisslm.tokenizers.token_bytes import token_bytes
from tisslm.tokenizers.tokenizer_json import one_line, parse, read

if TYPE_CHECKING:
    import tokenizers

__all__ = ["BpeTokenizer"]

#: Pieces of a text that are encoded at once: a megabyte, at least.
AT_ONCE = 256

#: The default number of ids of a tokenizer that is trained.
TRAINED_VOCABULARY = 4096


class BpeTokenizer(Tokenizer):
    """A tokenizer that is described by a tokenizer.json.

    Truncation and padding that the file asks for are switched off, and ``encode`` puts no special
    tokens around a text: those of ``begin`` come before documents and prompts. Special tokens
    within the text become their ids, and decoding writes them out.

    Parameters
    ----------
    path : str or path-like, optional
        A tokenizer.json, the format of the tokenizers library, alone; or a folder, read as
        ``from_folder`` does.
    tokenizer_json : str, optional
        The content of such a file. Exactly one of the two must be given.
    said : mapping, optional
        What is known beside the content: keys of ``TokenizerSettings``.

    Attributes
    ----------
    settings : TokenizerSettings

    Raises
    ------
    ConfigError
        If none or both are given.
    DataError
        If the file cannot be read, is no tokenizer.json, or does not fit what is said.

    References
    ----------
    R. Sennrich, B. Haddow, A. Birch. Neural Machine Translation of Rare Words with Subword
    Units. arXiv 1508.07909.
    """

    def __init__(
        self,
        *,
        path: str | PathLike[str] | None = None,
        tokenizer_json: str | None = None,
        said: Mapping[str, Any] | None = None,
    ) -> None:
        if (path is None) == (tokenizer_json is None):
            raise ConfigError(
                "bpe tokenizer: expected either path or tokenizer_json, got "
                f"{'none' if path is None else 'both'}; give one, or train a tokenizer on a text "
                "with BpeTokenizer.from_text(text, vocab_size=...)"
            )
        self._where = "bpe tokenizer" if path is None else str(path)
        if path is not None and Path(path).is_dir():
            content, said = read_folder(Path(path))
            self._inner = parse(content, str(Path(path) / "tokenizer.json"))
        elif path is not None:
            self._inner = parse(read(Path(path)), str(path))
        else:
            self._inner = parse(tokenizer_json or "", "bpe tokenizer: tokenizer_json")
        self._ids = self._inner.get_vocab(with_added_tokens=True)
        # Ids may have gaps, so the number of entries is not a bound.
        self._vocab_size = max(self._ids.values()) + 1
        self._id_type = np.min_scalar_type(self._vocab_size)
        self.settings = TokenizerSettings.of(said or {}, self._vocab_size, self._where)
        self._cuts = find_cuts(json.loads(self._inner.to_str()))
        self._lengths_V: NDArray[Any] | None = None

    @classmethod
    def from_folder(cls, path: str | PathLike[str]) -> BpeTokenizer:
        """Read a Hugging Face folder: its tokenizer.json and what its other files say.

        Those are ``tokenizer_config.json``, ``special_tokens_map.json``, ``chat_template.jinja``,
        and for the ids that end a text ``generation_config.json`` or ``config.json``; each may be
        missing.

        Raises
        ------
        DataError
            If it is no folder with a tokenizer.json, or a file cannot be used.
        """
        if not Path(path).is_dir():
            raise DataError(
                f"{path}: expected a folder with a tokenizer.json, got none; give the folder of a "
                "model, or BpeTokenizer(path=...) a file"
            )
        return cls(path=path)

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
            A tokenizer.json, or a folder with one, to read instead of training.
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
        """The id of the ``eos_token`` that is said, or of a usual one; None if there is none."""
        names = (self.settings.eos_token, *END_OF_TEXT)
        return next((self._ids[name] for name in names if name in self._ids), None)

    @property
    def begin(self) -> tuple[int, ...]:
        """The ids before a text that the files ask for."""
        return self.settings.begin

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids at which generation stops: those that are said, or the end of text."""
        return self.settings.ends or super().ends

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids around a text, and the special ones of the file."""
        added = self._inner.get_added_tokens_decoder()
        return super().special_ids | {number for number, token in added.items() if token.special}

    @property
    def chat_template(self) -> str | None:
        """The template that is said, None if there is none."""
        return self.settings.chat_template or None

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
        """Encode a text to an array of shape (n,) of the smallest unsigned type that holds V.

        A long text is encoded in pieces, on all cores, for the library takes some 100 bytes for
        each character of what it is given at once.
        """
        utf8_bytes(text, "bpe tokenizer")
        pieces = cut_text(text, self.find_cut)
        found: list[NDArray[Any]] = []
        while some := list(islice(pieces, AT_ONCE)):
            found += [np.array(one.ids, dtype=self._id_type) for one in self._encoded(some)]
        return np.concatenate(found)

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
            self._lengths_V = token_bytes(self._inner, description, super().special_ids)
        if not self._lengths_V.size:
            return super().count_bytes(ids)
        return int(self._lengths_V[id_array(ids, self._vocab_size, "bpe tokenizer")].sum())

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], *, reply: bool = False
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Encode a conversation as the template writes it; see ``chat``."""
        if not self.settings.chat_template:
            return super().encode_chat(messages, reply=reply)
        with refused_errors(self._refusal("encode this conversation")):
            ids, learn = self._conversations.encode(messages, reply=reply)
        return np.array(ids, dtype=self._id_type), learn

    @cached_property
    def _conversations(self) -> Conversations:
        return Conversations(self._inner, self.settings)

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
        """Return ``{"tokenizer": content}``, and what is said beside it under ``"config"``."""
        said = self.settings.values()
        return {"tokenizer": json.loads(self._inner.to_str())} | ({"config": said} if said else {})

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> BpeTokenizer:
        """Build the tokenizer that ``state`` describes.

        Raises
        ------
        CheckpointError
            If the state holds no usable tokenizer.
        """
        said = state.get("config", {})
        try:
            if not isinstance(said, Mapping):
                raise DataError(f"config: expected an object, got {type(said).__name__}")
            return cls(tokenizer_json=json.dumps(state.get("tokenizer")), said=said)
        except DataError as error:
            raise CheckpointError(
                "bpe tokenizer: expected a state with the content of a tokenizer.json, got "
                f"another ({one_line(error.__cause__ or error)}); the checkpoint is damaged, use "
                "an earlier one"
            ) from error

    def published(self) -> dict[str, Mapping[str, Any]]:
        """Return tokenizer.json, tokenizer_config.json and generation_config.json."""
        end = self.end_of_text
        names = [name for name, number in self._ids.items() if number == end]
        content = json.loads(self._inner.to_str())
        return published_files(
            content, self.settings, end_of_text=(names or [""])[0], ids=self._ids
        )
