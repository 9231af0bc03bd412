"""Documents as ids: ends, masks, checks, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from chat_templates import PLAIN, tokenizer_with, turns
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.datasets import Document, TokenDocuments, encode_documents
from tisslm.datasets.encoding import encode_document
from tisslm.datasets.splits import is_held_out, split_documents
from tisslm.errors import ConfigError, DataError, ShapeError
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer, CharTokenizer


class Ended(ByteTokenizer):
    """Bytes, and an id that ends a document."""

    vocab_size = 257
    end_of_text = 256


def document(*pieces: tuple[str, bool]) -> Document:
    return Document(pieces, "somewhere")


def token_documents(*lengths: int) -> TokenDocuments:
    offsets = np.cumsum([0, *lengths])
    return TokenDocuments(np.arange(offsets[-1]), offsets, None, 1000)


def test_a_document_is_its_pieces_and_an_end() -> None:
    both = document(("ab", False), ("c", True))
    ids, learn = encode_document(both, Ended())
    assert (ids.tolist(), learn.tolist()) == ([97, 98, 99, 256], [False, False, True, True])
    ids, learn = encode_document(both, Ended(), mask_prompt=False, ended=False)
    assert (ids.tolist(), learn.tolist()) == ([97, 98, 99], [True, True, True])
    ids, learn = encode_document(document(("a", True), ("b", False)), Ended())
    assert learn.tolist() == [True, False, False]
    assert both.text == "abc"


@settings(deadline=None)
@given(parts=st.lists(st.lists(st.tuples(st.text("abß", max_size=5), st.booleans()), min_size=1)))
def test_documents_lie_one_after_another(parts: list[list[tuple[str, bool]]]) -> None:
    documents = [document(*pieces) for pieces in parts]
    if not documents:
        return
    found = encode_documents(documents, Ended())
    assert len(found) == len(documents)
    assert found.tokens.dtype == np.uint16
    for i, one in enumerate(documents):
        ids, learn = encode_document(one, Ended())
        got_ids, got_learn = found.document(i)
        assert got_ids.tolist() == ids.tolist()
        assert got_learn.tolist() == learn.tolist()
    learned = [encode_document(one, Ended())[1].all() for one in documents]
    assert (found.learn is None) == all(learned)


def test_documents_without_a_token_are_left_out() -> None:
    found = encode_documents([document(("", True)), document(("a", True))], ByteTokenizer())
    assert (len(found), found.learn, found.nbytes) == (1, None, 1 + 16)
    with pytest.raises(DataError) as caught:
        encode_documents([], ByteTokenizer(), where="a.txt")
    assert str(caught.value) == "a.txt: expected at least one token, got none; give more text"


def test_a_document_begins_as_the_tokenizer_asks_and_that_is_no_target() -> None:
    class Begun(ByteTokenizer):
        begin = (1, 2)
        end_of_text = 3

    ids, learn = encode_document(document(("ab", False), ("c", True)), Begun())
    assert ids.tolist() == [1, 2, 97, 98, 99, 3]
    assert ids.dtype == np.uint8
    assert learn.tolist() == [False] * 4 + [True] * 2
    _, learn = encode_document(document(("a", False)), Begun(), mask_prompt=False, ended=False)
    assert learn.tolist() == [False, False, True]


CHAT = turns("Hello", "4.")


def chat(*messages: dict[str, str]) -> Document:
    return Document((("plain", True),), "here", messages)


def test_a_conversation_is_what_the_template_writes_and_nothing_more() -> None:
    tokenizer = tokenizer_with(PLAIN["llama 3"])
    ids, learn = encode_document(chat(*CHAT), tokenizer)
    expected, said = tokenizer.encode_chat(CHAT)
    assert ids.tolist() == expected.tolist()
    assert learn.tolist() == said.tolist()
    assert tokenizer.decode(ids[learn].tolist()) == "4.<|eot_id|>"
    assert encode_document(chat(*CHAT), tokenizer, mask_prompt=False)[1].all()


def test_a_conversation_needs_a_template_or_the_plain_form() -> None:
    with pytest.raises(ConfigError) as caught:
        encode_document(chat(*CHAT), ByteTokenizer())
    assert str(caught.value) == (
        "here: expected a tokenizer with a chat template for a conversation, got ByteTokenizer "
        'without one; set data.chat = "plain" (--chat plain) to write roles and contents as they '
        "are, or take the tokenizer of a model that was made for conversations"
    )


def test_a_conversation_that_the_template_refuses_may_be_left_out() -> None:
    tokenizer = tokenizer_with(PLAIN["mistral"])
    bad = chat(*CHAT, *CHAT, CHAT[1])
    message = (
        "here: the chat template refuses the conversation (roles must take turns, beginning with "
        "the user); mend or remove it"
    )
    with pytest.raises(DataError) as caught:
        encode_documents([bad], tokenizer)
    assert str(caught.value) == message
    refused: list[str] = []
    found = encode_documents([bad, chat(*CHAT), bad], tokenizer, refuse=refused.append)
    assert (len(found), refused) == (1, [message, message])


def test_a_text_that_the_tokenizer_refuses_is_named() -> None:
    with pytest.raises(DataError, match=r"^somewhere: char tokenizer: the character 'b'"):
        encode_documents([document(("b", True))], CharTokenizer(characters="a"))


def test_the_end_of_text_of_a_tokenizer_json() -> None:
    make = BpeTokenizer.from_text
    assert make("abc", vocab_size=300).end_of_text is None
    named = make("abc", vocab_size=300, special_tokens=["<pad>", "<|endoftext|>"])
    assert named.end_of_text == 1
    assert make("abc", vocab_size=300, special_tokens=["</s>"]).end_of_text == 0


@pytest.mark.parametrize("kind", [BpeTokenizer, CharTokenizer])
def test_a_tokenizer_learns_from_many_texts_what_it_learns_from_one(kind: type) -> None:
    options = {"vocab_size": 300} if kind is BpeTokenizer else {}
    text = "low lower lowest, new newer newest\n" * 9
    assert kind.from_texts([text], **options).state() == kind.from_text(text, **options).state()
    halves = (half for half in (text[:100], "", text[100:]))
    assert kind.from_texts(halves, **options).decode([0]) == kind.from_text(text, **options).decode(
        [0]
    )
    with pytest.raises(DataError, match="expected a training text, got an empty one"):
        kind.from_texts(["", ""], **options)


def test_an_error_of_the_texts_is_what_training_raises() -> None:
    def texts() -> Sequence[str]:
        yield "abc"
        raise DataError("line 2")

    with pytest.raises(DataError, match=r"^line 2$"):
        BpeTokenizer.from_texts(texts(), vocab_size=300)


@pytest.mark.parametrize(
    ("tokens", "offsets", "learn", "error", "message"),
    [
        ([[1]], [0, 1], None, ShapeError, "x: expected a one-dimensional array of integer token"),
        ([1.0], [0, 1], None, ShapeError, "x: expected a one-dimensional array of integer token"),
        ([1], [1], None, ShapeError, "x: expected offsets as an int64 array of shape (m + 1,) wi"),
        ([1, 2], [0, 1], None, DataError, "x: expected offsets from 0 to the 2 tokens, got 0 to 1"),
        ([1, 2], [1, 2], None, DataError, "x: expected offsets from 0 to the 2 tokens, got 1 to 2"),
        (
            [1, 2],
            [0, 1, 1, 2],
            None,
            DataError,
            "x: expected rising offsets, got 1 and then 1 for document 1; leave out documents wit",
        ),
        ([1, 2], [0, 2], [True], ShapeError, "x: expected learn as a bool or uint8 array of shape"),
        (
            [1, 5],
            [0, 2],
            None,
            DataError,
            "x: dataset: token id 5 at position 1 is not in range(",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tokens: object, offsets: object, learn: object, error: type[Exception], message: str
) -> None:
    mask = None if learn is None else np.array(learn)
    with pytest.raises(error) as caught:
        TokenDocuments(np.array(tokens), np.array(offsets), mask, 5, where="x")
    assert str(caught.value).startswith(message)


def test_a_part_is_a_view() -> None:
    whole = token_documents(3, 2, 4)
    part = whole.part(1, 3)
    assert part.offsets.tolist() == [0, 2, 6]
    assert np.shares_memory(part.tokens, whole.tokens)
    for first, last in ((1, 1), (-1, 2), (0, 4)):
        with pytest.raises(DataError, match=r"expected a part of range\(3\) with at least one"):
            whole.part(first, last)
    with pytest.raises(DataError, match=r"expected a document in range\(3\), got 3"):
        whole.document(3)


# --------------------------------------------------------------------------- splits


@settings(deadline=None)
@given(fraction=st.sampled_from([0.001, 0.05, 0.1, 0.3, 1 / 3, 0.5, 0.7, 0.99]))
def test_the_share_that_is_held_out_is_exact(fraction: float) -> None:
    held = [i for i in range(3000) if is_held_out(i, fraction)]
    assert abs(len(held) - 3000 * fraction) <= 1
    gaps = np.diff(held)
    assert gaps.max() < 2 / fraction + 2


def test_two_documents_are_enough_for_both_parts_and_none_is_held_out_by_zero() -> None:
    assert [is_held_out(i, 0.1) for i in range(2)] == [False, True]
    assert not any(is_held_out(i, 0.0) for i in range(100))
    assert len({i % 10 for i in range(3000) if is_held_out(i, 0.1)}) == 10


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
def test_ready_tokens_are_cut_between_documents(fraction: float) -> None:
    train, valid = split_documents(token_documents(5, 7, 3, 30, 2, 8), fraction)
    assert valid is not None
    assert [*train.tokens, *valid.tokens] == list(range(55))
    assert len(train) + len(valid) == 6
    assert abs(len(valid.tokens) - 55 * fraction) <= 30
    assert split_documents(token_documents(5), 0)[1] is None


def test_one_document_of_ready_tokens_is_not_cut() -> None:
    with pytest.raises(DataError) as caught:
        split_documents(token_documents(5), 0.1)
    assert str(caught.value) == (
        "documents: expected several documents to hold some out, got one; set data.valid_path to "
        "tokens to validate on, or data.valid_fraction to 0"
    )
