"""The tokenizer ``tiktoken``: a named encoding, or the ranks of a file.

The format of files is in ``ranks``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tiktoken
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.tokenizers.checks import id_array, utf8_bytes
from tisslm.tokenizers.cuts import first_match
from tisslm.tokenizers.rust_errors import refused_errors, without_panic_text
from tisslm_tiktoken.cuts import find_cuts
from tisslm_tiktoken.encodings import named_encoding
from tisslm_tiktoken.patterns import check_pattern
from tisslm_tiktoken.ranks import format_ranks, parse_ranks, read_ranks
from tisslm_tiktoken.specials import END_OF_TEXT, SpecialTokens, add_specials

__all__ = ["TiktokenTokenizer"]

WHERE = "tiktoken tokenizer"

#: A text to try a pattern on: letters, digits, signs, white space of several kinds and scripts.
PROBE = "It's a Test.  42, naïve\n\n\t東京 🙂 e\u0301 русский _x1 ==\r\n \u00a0end "

#: The text of an id that no token has.
UNKNOWN = "\ufffd".encode()


class TiktokenTokenizer(Tokenizer):
    """A byte-pair tokenizer that gives the same ids as tiktoken.

    Its state contains ranks, pattern and special tokens, so that a checkpoint needs neither the
    file nor the network again.

    Parameters
    ----------
    encoding : str, optional
        A name that tiktoken knows ("gpt2", "cl100k_base", "o200k_base"); its ranks are downloaded
        once. Pattern and special tokens come with it.
    path : str or path-like, optional
        A ``.tiktoken`` file: a token in base64 and its rank in each line.
    ranks : str, optional
        The content of such a file. Exactly one of the three must be given.
    pattern : str, optional
        The regular expression that splits a text into the pieces in which pairs are merged, or the
        name of the encoding that has it. Required with ``path`` or ``ranks``, and only with them.
    special_tokens : mapping of str to int, or sequence of str
        Special tokens with their ids, in addition to those of ``encoding``; those of a sequence get
        the ids after the largest. ``<|endoftext|>`` (or ``<|end_of_text|>``, ``</s>``, ``<eos>``)
        ends a document.
    encode_special : bool
        Whether special tokens within a text are recognized; if not, they are ordinary text.

    Raises
    ------
    ConfigError
        If an option is missing, given twice or refused, or a pattern cannot be used.
    DataError
        If the file cannot be used, or the named encoding cannot be loaded.

    References
    ----------
    A. Radford and others. Language Models are Unsupervised Multitask Learners. 2019. Section 2.2.
    """

    test_options: ClassVar[Sequence[Mapping[str, Any]]] = (
        {
            "ranks": "".join(
                f"{base64.b64encode(token).decode()} {rank}\n"
                for rank, token in enumerate(
                    [*(bytes([i]) for i in range(256)), b"th", b"qu", b"  ", b"the"]
                )
            ),
            "pattern": "gpt2",
            "special_tokens": {END_OF_TEXT[0]: 300},
        },
    )

    def __init__(
        self,
        *,
        encoding: str | None = None,
        path: str | PathLike[str] | None = None,
        ranks: str | None = None,
        pattern: str | None = None,
        special_tokens: SpecialTokens = (),
        encode_special: bool = True,
    ) -> None:
        sources = {"encoding": encoding, "path": path, "ranks": ranks}
        given = [name for name, value in sources.items() if value is not None]
        if len(given) != 1:
            raise ConfigError(
                f"{WHERE}: expected exactly one of encoding, path and ranks, got "
                f"{' and '.join(given) or 'none'}; set path to a .tiktoken file, or encoding to a "
                "name that tiktoken knows"
            )
        if not isinstance(encode_special, bool):
            raise ConfigError(
                f"{WHERE}: expected encode_special as true or false, got {encode_special!r:.200}"
            )
        known: Mapping[str, int] = {}
        if encoding is not None:
            self._ranks, self._pattern, known = named_encoding(encoding, pattern)
        else:
            self._pattern = check_pattern(pattern)
            self._ranks = (
                read_ranks(Path(path)) if path is not None else parse_ranks(ranks or "", "ranks")
            )
        self.special_tokens = add_specials(self._ranks, known, special_tokens)
        self.encode_special = encode_special
        self._build()

    def _build(self) -> None:
        """Build tiktoken's encoder and the tables of bytes by id; try the pattern."""
        try:
            self._inner = tiktoken.Encoding(
                "tisslm",
                pat_str=self._pattern,
                mergeable_ranks=self._ranks,
                special_tokens=self.special_tokens,
            )
        except ValueError as error:
            raise ConfigError(
                f"{WHERE}: expected a regular expression as the pattern, got {self._pattern[:80]!r}"
                f" ({error}); mend it, or give the name of an encoding such as 'gpt2'"
            ) from error
        self._bytes = {rank: token for token, rank in self._ranks.items()}
        self._bytes |= {id_: text.encode() for text, id_ in self.special_tokens.items()}
        self._vocab_size = max(self._bytes) + 1
        self._dtype = np.min_scalar_type(self._vocab_size - 1)
        self._n_bytes_V = np.zeros(self._vocab_size, dtype=np.int32)
        self._n_bytes_V[list(self._bytes)] = [len(token) for token in self._bytes.values()]
        self._content: str | None = None
        self._cuts = find_cuts(self._pattern, self.special_tokens if self.encode_special else ())
        try:
            with without_panic_text():
                self.encode_array(PROBE)
        except DataError as error:
            raise ConfigError(
                f"{WHERE}: expected a pattern that takes every text apart, got "
                f"{self._pattern[:80]!r} ({error}); mend it, or give the name of an encoding such "
                "as 'gpt2'"
            ) from error

    @classmethod
    def from_texts(cls, texts: Iterable[str], **options: Any) -> TiktokenTokenizer:
        """Build the tokenizer; the texts are not read, because there is nothing to train."""
        return cls(**options)

    @property
    def vocab_size(self) -> int:
        """The largest id plus one; some encodings have ids that no token has."""
        return self._vocab_size

    @property
    def end_of_text(self) -> int | None:
        """The id of ``<|endoftext|>`` or of another usual end token; None if there is none."""
        return next(
            (id_ for n in END_OF_TEXT if (id_ := self.special_tokens.get(n)) is not None), None
        )

    def encode(self, text: str) -> list[int]:
        """Encode a text to token ids; the errors are those of ``encode_array``."""
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def encode_array(self, text: str) -> NDArray[Any]:
        """Encode a text to an array of shape (n,) of the smallest unsigned type that holds V - 1.

        Raises
        ------
        DataError
            If the text has a lone surrogate, or the pattern cannot take it apart.
        """
        n_bytes = len(utf8_bytes(text, WHERE))
        allowed = self._inner.special_tokens_set if self.encode_special else set()

        def refusal(error: BaseException) -> DataError:
            return DataError(
                f"{WHERE}: the pattern cannot take a text of {n_bytes} bytes apart ({error}); "
                "cut very long runs of white space in it, or mend the pattern, which must not "
                "match an empty text"
            )

        with refused_errors(refusal):
            ids = self._inner.encode_to_numpy(text, allowed_special=allowed, disallowed_special=())
        covered = int(self._n_bytes_V[ids].sum(dtype=np.int64))
        if covered != n_bytes:
            raise DataError(
                f"{WHERE}: the pattern leaves out {n_bytes - covered} of the text's {n_bytes} "
                r"bytes, which would be lost; end it with alternatives for what is left: |\s|\S"
            )
        return ids.astype(self._dtype)

    def count_bytes(self, ids: NDArray[Any]) -> int:
        """Count the bytes of the tokens; the end-of-text token has none.

        Raises
        ------
        DataError
            If an id is not in ``range(vocab_size)``.
        """
        known = id_array(ids, self._vocab_size, WHERE)
        end = self.end_of_text
        return int(self._n_bytes_V[known if end is None else known[known != end]].sum())

    def find_cut(self, text: str, start: int) -> int:
        """Return the first safe place to cut from ``start`` on, -1 if the pattern is unknown."""
        return first_match(self._cuts, text, start)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode token ids to text, with U+FFFD for invalid UTF-8 and ids without a token.

        Raises
        ------
        DataError
            If an id is not in ``range(vocab_size)``.
        """
        known = id_array(ids, self._vocab_size, WHERE).tolist()
        raw = b"".join(self._bytes.get(id_, UNKNOWN) for id_ in known)
        return raw.decode("utf-8", errors="replace")

    def state(self) -> dict[str, Any]:
        """Return ranks (the content of a ``.tiktoken`` file), pattern and special tokens."""
        if self._content is None:
            self._content = format_ranks(self._ranks)
        return {
            "ranks": self._content,
            "pattern": self._pattern,
            "special_tokens": dict(self.special_tokens),
            "encode_special": self.encode_special,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TiktokenTokenizer:
        """Build the tokenizer that ``state`` describes.

        Raises
        ------
        CheckpointError
            If the state holds no usable tokenizer.
        """
        try:
            types = {"ranks": str, "pattern": str, "special_tokens": dict, "encode_special": bool}
            for key, kind in types.items():
                if not isinstance(state.get(key), kind):
                    raise ConfigError(f"expected {key} as a {kind.__name__}")
            return cls(**{key: state[key] for key in types})
        except (ConfigError, DataError) as error:
            raise CheckpointError(
                f"{WHERE}: expected a state with ranks, pattern and special tokens, got another "
                f"({error}); the checkpoint is damaged, use an earlier one"
            ) from error
