"""Texts to vectors: order, prompts, passes, dimensions, and what is refused."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from letters import Letters

from tisslm.errors import ConfigError, DataError, NonFiniteError, ShapeError
from tisslm.tokenizers import ByteTokenizer, CharTokenizer
from tisslm.workflows.embedding import TextEmbedder, embedder

TEXTS = ["abc" * (i % 7 + 1) + "d" * (i % 3) for i in range(40)]


def made(**options: Any) -> TextEmbedder:
    return TextEmbedder(Letters(), ByteTokenizer(), **options)


def counts(*texts: str) -> Any:
    return np.array([[text.count(letter) for letter in "abcdef"] for text in texts], np.float32)


@pytest.mark.parametrize("batch_size", [None, 1, 7, 100])
@pytest.mark.parametrize("chunk", [3, 2048])
def test_vectors_come_in_the_order_of_the_texts(
    batch_size: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "CHUNK_TEXTS", chunk)
    found = made().encode(TEXTS, batch_size)
    assert found.dtype == np.float32
    assert np.array_equal(found, counts(*TEXTS))


def test_one_text_has_one_vector_and_none_has_none() -> None:
    assert np.array_equal(made().encode("aab"), counts("aab")[0])
    assert made().encode([]).shape == (0, 6)


def test_passes_have_so_many_texts_or_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    model.encode(TEXTS, 16)
    assert [len(texts) for texts in model.model.passes] == [16, 16, 8]
    monkeypatch.setattr(embedder, "TOKENS", 20)
    model = made()
    model.encode(TEXTS)
    sizes = [sum(map(len, texts)) for texts in model.model.passes]
    assert sum(sizes) == sum(map(len, TEXTS))
    assert all(
        size <= 20 or len(texts) == 1 for size, texts in zip(sizes, model.model.passes, strict=True)
    )


def test_queries_and_documents_have_their_prompts() -> None:
    model = made(prompts={"query": "ff"})
    assert np.array_equal(model.encode_query(["a"]), counts("ffa"))
    assert np.array_equal(model.encode_document(["a"]), counts("a"))
    assert np.array_equal(model.encode_query(["a"], prompt="b"), counts("ba"))


def test_callers_in_several_threads_get_their_own_vectors() -> None:
    class Shared(Letters):
        """An encoder with one buffer, which is no longer the caller's when another one comes."""

        inside = 0

        def embed(self, texts: Any, **options: Any) -> Any:
            self.inside += 1
            assert self.inside == 1
            time.sleep(0.001)
            found = super().embed(texts, **options)
            self.inside -= 1
            return found

    model, found = TextEmbedder(Shared(), ByteTokenizer()), {}

    def encode(number: int) -> None:
        found[number] = model.encode(["abcdef"[number] * (i + 1) for i in range(8)], 1)

    callers = [threading.Thread(target=encode, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for number in range(4):
        assert found[number][:, number].tolist() == [*range(1, 9)], number
    assert model.n_texts == 32
    assert np.array_equal(model.encode(["a"], prompt="d"), counts("da"))


def test_vectors_are_shortened_and_then_of_length_one() -> None:
    whole, normal = counts("aab"), made().encode(["aab"], normalize=True)
    assert normal == pytest.approx(whole / np.sqrt(5))
    assert made().encode(["abb"], dimensions=1).tolist() == [[1.0]]
    assert made(normalized=False).encode(["abb"], dimensions=2).tolist() == [[1.0, 2.0]]
    assert made().encode(["abb"], dimensions=2, normalize=False).tolist() == [[1.0, 2.0]]
    assert made().encode(["xyz"], normalize=True).tolist() == [[0.0] * 6]


def test_long_texts_lose_their_end_and_are_counted() -> None:
    model = made(max_tokens=3)
    assert np.array_equal(model.encode(["abcdef", "abc"]), counts("abc", "abc"))
    assert (model.n_texts, model.n_cut) == (2, 1)
    assert model.cut == "1 of 2 texts have more than 3 tokens, of which the last are cut off"
    assert made(max_tokens=99).cut == ""


def test_similarity_is_the_cosine_or_the_dot_product() -> None:
    a, b = counts("a", "b"), counts("aaa", "ab", "x")
    cosine = np.array([[1, np.sqrt(0.5), 0], [0, np.sqrt(0.5), 0]])
    assert made().similarity(a, b) == pytest.approx(cosine, abs=1e-7)
    assert made().similarity(a[0], b[1]).shape == (1, 1)
    assert made(similarity_name="dot").similarity(a, b).tolist() == [[3, 1, 0], [0, 1, 0]]
    assert b.max() == 3  # what was given is left alone
    assert made().similarity(a[:0], b).shape == (0, 3)
    with pytest.raises(ShapeError, match=r"^similarity: expected vectors \(P, E\) and \(Q, E\)"):
        made().similarity(a, b[:, :3])
    assert made().similarity([[1.0, 0.0]], [[0, 2], [3, 0]]).tolist() == [[0, 1]]
    with pytest.raises(ShapeError, match=r"^similarity: expected .* of real numbers, got \(1, 1\)"):
        made().similarity("a", "b")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", " \n"], "text 1: expected a text, got an empty one; leave it out"),
        (
            (text for text in "ab"),
            "texts: expected a str or a list of them, got generator; give a "
            "list, or any iterable to encode_stream",
        ),
        (
            b"ab",
            "texts: expected a str or a list of them, got bytes; give a list, or any iterable "
            "to encode_stream",
        ),
        (["a", None], "text 1: expected a str, got NoneType; leave it out"),
    ],
)
def test_what_is_no_text_is_refused(texts: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        made().encode(texts)
    assert str(caught.value) == message


def test_a_vector_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Damaged(Letters):
        """What has an f has no vector."""

        def embed(self, texts: Any, **options: Any) -> Any:
            found, cache = super().embed(texts, **options)
            found[found[:, 5] > 0, 1] = np.nan
            return found, cache

    monkeypatch.setattr(embedder, "CHUNK_TEXTS", 2)
    with pytest.raises(NonFiniteError, match=r"^text 3: the model made a vector that is not fin"):
        TextEmbedder(Damaged(), ByteTokenizer()).encode(["a", "b", "c", "f", "a"])


def test_a_text_that_the_tokenizer_refuses_is_named() -> None:
    model = TextEmbedder(Letters(), CharTokenizer.from_text("abc"))
    with pytest.raises(DataError, match=r"^text 2: .*'x'"):
        model.encode(["a", "b", "x"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected an integer >= 1, got 0"),
        (
            {"dimensions": 7},
            "dimensions: expected from 1 to 6, the numbers of the model's vectors,",
        ),
        ({"dimensions": True}, "dimensions: expected an integer >= 1, got True"),
        ({"batch_size": True}, "batch_size: expected an integer >= 1, got True"),
        ({"prompt": 3}, "prompt: expected a str, got int"),
        ({"prompt": "a" * 32}, "prompt: expected one that leaves room for a text within 32 tokens"),
    ],
)
def test_options_out_of_bounds_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made().encode(["a"], **options)
    assert str(caught.value).startswith(message)
    with pytest.raises(ConfigError, match=r'^similarity: expected "cosine" or "dot"'):
        made(similarity_name="l2")


def test_the_thread_ends_with_the_stream_also_after_an_error() -> None:
    before = set(threading.enumerate())
    stream = made().encode_stream(iter(TEXTS))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    with pytest.raises(DataError):
        made().encode(["a", ""])
    assert not set(threading.enumerate()) - before
