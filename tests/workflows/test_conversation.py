"""What a conversation keeps, where an answer ends, and what becomes of one that is too long."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Any

import pytest
from chat_templates import PLAIN, tokenizer_with, turns

from tisslm.config.model import TransformerConfig
from tisslm.errors import ConfigError, DataError
from tisslm.models.generation import Sampling, generate
from tisslm.models.transformer import Transformer
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows import conversation as module
from tisslm.workflows.conversation import Conversation

TOKENIZER = tokenizer_with(PLAIN["chatml"])
GREEDY = Sampling(temperature=0.0)


def model(seq_len: int = 128) -> Transformer:
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 8, "vocab_size": TOKENIZER.vocab_size}
    return Transformer(TransformerConfig(**sizes, seq_len=seq_len), seed=1)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Let the model say some ids, and keep the prompts that it was given."""
    prompts: list[list[int]] = []

    def stream(model: Any, prompt: list[int], room: int, *_: Any, **__: Any) -> Iterator[int]:
        prompts.append(prompt)
        ids = TOKENIZER.encode("It is 4.<|im_end|>never said")
        return islice(iter(ids), room)

    monkeypatch.setattr(module, "stream", stream)
    return prompts


def test_each_turn_has_all_that_was_said_before(says: list[list[int]]) -> None:
    talk = Conversation(model(), TOKENIZER, system="Count.")
    assert "".join(talk.answer("2+2?")) == "It is 4."
    assert "".join(talk.answer("And 3+1?")) == "It is 4."
    assert talk.messages == turns("2+2?", "It is 4.", "And 3+1?", "It is 4.")
    said = turns("2+2?", "It is 4.", "And 3+1?", system="Count.")
    assert says[1] == TOKENIZER.encode_chat(said, reply=True)[0].tolist()
    talk.reset()
    "".join(talk.answer("Hi"))
    said = turns("Hi", system="Count.")
    assert says[2] == TOKENIZER.encode_chat(said, reply=True)[0].tolist()


def test_an_answer_that_is_stopped_counts_as_far_as_it_was_read(says: list[list[int]]) -> None:
    talk = Conversation(model(), TOKENIZER)
    answer = talk.answer("2+2?")
    read = next(answer) + next(answer)
    answer.close()
    assert talk.messages == turns("2+2?", read)
    assert len(says) == 1


def test_it_is_the_models_greedy_text() -> None:
    talk = Conversation(model(), TOKENIZER, sampling=GREEDY, max_new_tokens=5)
    text = "".join(talk.answer("Hello"))
    ids, _ = TOKENIZER.encode_chat(turns("Hello"), reply=True)
    new = generate(model(), ids.tolist(), 5, GREEDY)
    expected = list(takewhile(lambda token: token not in TOKENIZER.special_ids, new))
    assert text == TOKENIZER.decode(expected)


def test_the_oldest_turns_are_forgotten_where_the_context_is_full(says: list[list[int]]) -> None:
    talk = Conversation(model(60), TOKENIZER, system="S")
    for _ in range(5):
        "".join(talk.answer("Hello"))
    assert talk.forgotten > 0
    assert len(talk.messages) + talk.forgotten == 10
    assert talk.messages[0]["role"] == "user"
    assert all(len(prompt) < 60 for prompt in says)
    assert TOKENIZER.decode(says[-1]).startswith("<|im_start|>system\nS<|im_end|>")


def test_an_answer_ends_where_the_context_does(says: list[list[int]]) -> None:
    ids, _ = TOKENIZER.encode_chat(turns("Hello"), reply=True)
    talk = Conversation(model(len(ids) + 2), TOKENIZER)
    expected = TOKENIZER.decode(TOKENIZER.encode("It is 4.")[:2])
    assert "".join(talk.answer("Hello")) == expected


def test_what_is_refused_was_not_said(says: list[list[int]]) -> None:
    talk = Conversation(model(), TOKENIZER)
    with pytest.raises(DataError, match="without special tokens"):
        talk.answer("<|im_end|>")
    with pytest.raises(DataError) as caught:
        talk.answer("x" * 999)
    assert str(caught.value).startswith(
        "expected a text for which the context of 128 tokens has room, got one of 1"
    )
    assert talk.messages == []


def test_a_text_that_is_too_long_lets_nothing_be_forgotten(says: list[list[int]]) -> None:
    talk = Conversation(model(), TOKENIZER)
    "".join(talk.answer("2+2?"))
    with pytest.raises(DataError, match="has room"):
        talk.answer("x" * 999)
    assert talk.messages == turns("2+2?", "It is 4.")
    assert talk.forgotten == 0


def test_an_answer_that_spells_the_end_of_a_turn_ends_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stream(*_: Any, **__: Any) -> Iterator[int]:
        for letter in "a < b <|im_end|> more":  # each a token of its own
            yield from TOKENIZER.encode(letter)

    monkeypatch.setattr(module, "stream", stream)
    talk = Conversation(model(), TOKENIZER)
    assert "".join(talk.answer("2+2?")) == "a < b "
    assert "".join(talk.answer("And?")) == "a < b "
    assert talk.messages == turns("2+2?", "a < b ", "And?", "a < b ")


def test_without_a_template_there_is_no_conversation() -> None:
    with pytest.raises(ConfigError) as caught:
        Conversation(model(), ByteTokenizer())
    assert str(caught.value) == (
        "a conversation needs a tokenizer with a chat template, and this model's has none; use "
        "tisslm generate, or a model that was made for conversations"
    )
    with pytest.raises(ConfigError, match=r"^max_new_tokens: expected an integer >= 1, got 0$"):
        Conversation(model(), TOKENIZER, max_new_tokens=0)
