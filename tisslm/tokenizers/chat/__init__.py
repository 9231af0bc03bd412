"""Conversations as text, by the template of a model's tokenizer."""

from __future__ import annotations

from tisslm.tokenizers.chat.conversations import Conversations
from tisslm.tokenizers.chat.template import ChatTemplate

__all__ = ["ChatTemplate", "Conversations"]
