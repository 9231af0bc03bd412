"""Conversations as token ids, and which of them the assistant says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import DataError
from tisslm.system.safe_files import show
from tisslm.tokenizers.chat.template import ChatTemplate
from tisslm.tokenizers.checks import utf8_bytes
from tisslm.tokenizers.settings import ROLES, TokenizerSettings

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Conversations"]


@final
class Conversations:
    """An encoder of conversations by a tokenizer's template.

    Parameters
    ----------
    inner : tokenizers.Tokenizer
    settings : TokenizerSettings
        With a template.

    Raises
    ------
    ConfigError
        If jinja2 is not installed.
    """

    def __init__(self, inner: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
        self._inner = inner
        added = inner.get_added_tokens_decoder().values()
        self._specials = [token.content for token in added if token.special]
        tokens = {role: getattr(settings, role) for role in ROLES if getattr(settings, role)}
        self._template = ChatTemplate(settings.chat_template, tokens, self._specials)

    def encode(
        self, messages: Sequence[Mapping[str, str]], *, reply: bool
    ) -> tuple[list[int], NDArray[np.bool_]]:
        """Return the ids of the whole text, and which the assistant says.

        Raises
        ------
        DataError
            If a message has a special token as text, or the template refuses the conversation.
        """
        for number, message in enumerate(messages):
            self._check(number, message)
        text, spans = self._template.render(messages, reply=reply)
        utf8_bytes(text, "chat template")
        encoding = self._inner.encode_batch([text], add_special_tokens=False)[0]
        return encoding.ids, within(encoding.offsets, spans)

    def _check(self, number: int, message: Mapping[str, str]) -> None:
        """Refuse what is no text, and special tokens in what somebody says: they forge a turn."""
        for part in ("role", "content"):
            text: object = message.get(part)  # from a caller, it may be anything
            if not isinstance(text, str):
                raise DataError(
                    f"message {number}: expected a {part} that is a text, got {show(text)}; join "
                    "its parts, or leave the message out"
                )
            found = min((t for t in self._specials if t in text), key=text.find, default=None)
            if found is not None:
                raise DataError(
                    f"message {number}: expected a {part} without special tokens, got one with "
                    f"{show(found)}, which would end the turn or begin another; remove it"
                )


def within(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """Return which tokens overlap a span of characters.

    Parameters
    ----------
    offsets : sequence of (int, int)
        The characters of each token, in order.
    spans : sequence of (int, int)
        In order, and apart.
    """
    found = np.zeros(len(offsets), dtype=bool)
    if not spans or not len(offsets):
        return found
    begins, ends = np.array(offsets, dtype=np.int64).T
    for start, stop in spans:
        found |= (begins < stop) & (ends > start)
    return found
