"""What the contract gives to a tokenizer that writes only what it must."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tisslm.contracts import Tokenizer
from tisslm.errors import ConfigError


class Parity(Tokenizer):
    """One id for even code points, one for odd ones."""

    @property
    def vocab_size(self) -> int:
        return 2

    def encode(self, text: str) -> list[int]:
        return [ord(character) % 2 for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("01"[i] for i in ids)

    def state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Parity:
        return cls()


def test_arrays_come_from_encode() -> None:
    for text in ("", "abc"):
        array = Parity.from_text(text).encode_array(text)
        assert array.dtype == np.int32
        assert array.tolist() == Parity().encode(text)


def test_bytes_are_counted_by_decoding():
    class Ended(Parity):
        end_of_text = 1

    ids = np.array([0, 1, 1, 0], dtype=np.uint8)
    assert Parity().count_bytes(ids) == 4
    assert Ended().count_bytes(ids) == 2


def test_generation_stops_at_the_end_of_text_if_nothing_else_is_said() -> None:
    class Ended(Parity):
        end_of_text = 1

    assert (Parity().ends, Ended().ends) == ((), (1,))
    assert (Parity().begin, Parity().published(), Parity().chat_template) == ((), None, None)


def test_what_stands_around_a_text_counts_no_bytes() -> None:
    class Around(Parity):
        begin = (0,)

        def decode(self, ids: Sequence[int]) -> str:
            return "x" * len(ids)

    ids = np.array([0, 1, 1, 0])
    assert Around().count_bytes(ids) == 2
    Around.ends = (1,)  # type: ignore[assignment, misc]
    assert Around().count_bytes(ids) == 0


def test_a_conversation_needs_a_template() -> None:
    with pytest.raises(ConfigError) as caught:
        Parity().encode_chat([{"role": "user", "content": "Hi"}])
    assert str(caught.value) == (
        "Parity: expected a tokenizer with a chat template, got one without; use the tokenizer of "
        "a model that was made for conversations"
    )
