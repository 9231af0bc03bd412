"""What a tokenizer from outside says beside its tokenizer.json: ids around a text, and a template.

They are read from files in ``huggingface.folder``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

from tisslm.errors import DataError
from tisslm.system.safe_files import show

__all__ = ["END_OF_TEXT", "LONGEST_TEMPLATE", "ROLES", "TokenizerSettings"]

#: The tokens with a role that files name.
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")

#: Usual names of the token that ends a document; the first that a tokenizer has is taken.
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")

#: The most bytes of a chat template; those of known models have up to 20,000.
LONGEST_TEMPLATE = 2**16

#: The most ids that begin a text, or end one, and the most characters of a token's name.
MOST_IDS = 64
LONGEST_NAME = 1024


@final
@dataclass(frozen=True)
class TokenizerSettings:
    """What is said about a tokenizer beside its vocabulary; what is not said is left out.

    Attributes
    ----------
    begin : tuple of int
        Ids before every document and prompt.
    ends : tuple of int
        Ids at which generation stops.
    chat_template : str
        A jinja2 template of at most 64 KiB.
    bos_token, eos_token, pad_token, unk_token : str
        Tokens by their roles.
    pre : str
        The name that GGUF has for the splitting into words, kept for export.
    """

    begin: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    chat_template: str = ""
    bos_token: str = ""
    eos_token: str = ""
    pad_token: str = ""
    unk_token: str = ""
    pre: str = ""

    @classmethod
    def of(cls, said: Mapping[str, Any], vocab_size: int, where: str) -> TokenizerSettings:
        """Check what a state or a folder says.

        Raises
        ------
        DataError
            If a key is unknown, a value has another type, or an id is not in the vocabulary.
        """
        known = {field.name for field in fields(cls)}
        for key in said:
            if key not in known:
                raise DataError(
                    f"{where}: expected the keys {', '.join(sorted(known))}, got {show(key)}; "
                    "it was written by another version"
                )
        found: dict[str, Any] = {}
        for key, value in said.items():
            if key in ("begin", "ends"):
                found[key] = _ids(value, vocab_size, f"{where}: {key}")
            else:
                found[key] = _text(value, f"{where}: {key}", key == "chat_template")
        return cls(**found)

    def values(self) -> dict[str, Any]:
        """Return what is said as plain JSON values, from which ``of`` makes the same."""
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value:
                found[field.name] = list(value) if isinstance(value, tuple) else value
        return found


def _ids(value: object, vocab_size: int, where: str) -> tuple[int, ...]:
    """Return distinct ids in their order."""
    if not isinstance(value, list | tuple) or len(value) > MOST_IDS:
        raise DataError(
            f"{where}: expected a list of at most {MOST_IDS} token ids, got {show(value)}; mend it"
        )
    for number in value:
        if type(number) is not int or not 0 <= number < vocab_size:
            raise DataError(
                f"{where}: expected token ids from 0 to {vocab_size - 1}, got {show(number)}; use "
                "the tokenizer and the configuration of one model"
            )
    return tuple(dict.fromkeys(value))


def _text(value: object, where: str, is_template: bool) -> str:
    most = LONGEST_TEMPLATE if is_template else LONGEST_NAME
    size = len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 0
    if not isinstance(value, str) or size > most:
        got = f"one of {size} bytes" if isinstance(value, str) else show(value)
        raise DataError(f"{where}: expected a text of at most {most} bytes, got {got}; shorten it")
    return value
