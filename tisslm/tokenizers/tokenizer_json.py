"""Reading a tokenizer.json, and building the library's tokenizer from its content.

Its numbers are checked in ``json_limits``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tisslm.errors import DataError
from tisslm.system.safe_files import Refusal, RegularFile
from tisslm.tokenizers.json_limits import checked_content
from tisslm.tokenizers.rust_errors import refused_errors, without_panic_text

if TYPE_CHECKING:
    import tokenizers

__all__ = ["one_line", "parse", "read"]

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
