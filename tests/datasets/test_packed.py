"""Rows out of documents: what is in them, what is learned, and where documents begin."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import equal_rows

from tisslm.contracts import Dataset, Rows
from tisslm.datasets import (
    Document,
    KeyedPermutation,
    PackedDataset,
    TokenDataset,
    TokenDocuments,
    encode_documents,
)
from tisslm.datasets.row_plan import plan_rows
from tisslm.errors import ConfigError, DataError
from tisslm.tokenizers import ByteTokenizer

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def documents(lengths: list[int], seed: int | None = None) -> TokenDocuments:
    """Documents whose every token is another, with a random mask if a seed is given."""
    offsets = np.cumsum([0, *lengths])
    n = int(offsets[-1])
    learn = None if seed is None else np.random.default_rng(seed).random(n) < 0.7
    if learn is not None:
        learn[-1] = True
    return TokenDocuments(np.arange(1, n + 1).astype(np.uint16), offsets, learn, n + 1)


def pairs_of(dataset: PackedDataset) -> list[tuple[int, int]]:
    """Return every (input, target) that is learned."""
    found = []
    for i in range(len(dataset)):
        x, y, *_ = dataset.window(i)
        found += [(int(a), int(b)) for a, b in zip(x, y, strict=True) if b != -100]
    return found


def expected_pairs(docs: TokenDocuments, n_places: int | None = None) -> list[tuple[int, int]]:
    """Return the same, straight from the documents; of a stream, what is before its rest."""
    found = []
    for i in range(len(docs)):
        ids, learn = docs.document(i)
        found += [
            (int(a), int(b))
            for a, b, may in zip(ids[:-1], ids[1:], learn[1:], strict=True)
            if may and (n_places is None or a <= n_places)
        ]
    return found


@settings(deadline=None)
@given(lengths=LENGTHS, seq_len=st.integers(1, 12), seed=st.none() | st.integers(0, 9))
def test_a_stream_learns_each_token_of_a_document_from_those_before(
    lengths: list[int], seq_len: int, seed: int | None
) -> None:
    docs = documents(lengths, seed)
    if len(docs.tokens) <= seq_len:
        return
    n_rows = (len(docs.tokens) - 1) // seq_len
    expected = expected_pairs(docs, n_rows * seq_len)
    if seed is not None and not expected:
        with pytest.raises(DataError, match="expected tokens to learn, got only prompts"):
            PackedDataset(docs, seq_len)
        return
    dataset = PackedDataset(docs, seq_len)
    assert pairs_of(dataset) == expected
    if seed is None:
        assert len(dataset) == n_rows
        inputs = np.concatenate([dataset.window(i).x for i in range(len(dataset))])
        assert inputs.tolist() == docs.tokens[: len(inputs)].tolist()
    check_starts(dataset, docs)


@settings(deadline=None)
@given(lengths=LENGTHS, seq_len=st.integers(1, 12), seed=st.none() | st.integers(0, 9))
def test_whole_documents_are_all_learned_once(
    lengths: list[int], seq_len: int, seed: int | None
) -> None:
    docs = documents(lengths, seed)
    if max(lengths) < 2 or not expected_pairs(docs):
        return
    dataset = PackedDataset(docs, seq_len, packing="whole")
    assert sorted(pairs_of(dataset)) == expected_pairs(docs)
    check_starts(dataset, docs)
    plan = plan_rows(docs.offsets, seq_len)
    rows = np.add.reduceat(plan.lengths, plan.first[:-1])
    assert rows.max() <= seq_len
    assert rows.sum() == sum(lengths) - len(lengths)
    # Any two rows that could be one would have been.
    assert len(rows) < 2 or np.sort(rows)[:2].sum() > seq_len


def check_starts(dataset: PackedDataset, docs: TokenDocuments) -> None:
    """Starts are where the document, or its part in this row, begins."""
    for i in range(len(dataset)):
        window = dataset.window(i)
        assert all(a.dtype == np.int32 and a.shape == (dataset.seq_len,) for a in window)
        assert (window.start is not None) == dataset.has_starts
        number = np.searchsorted(docs.offsets, window.x.astype(int) - 1, side="right")
        for t in range(dataset.seq_len if dataset.has_starts else 0):
            start = int(window.start[t])
            assert 0 <= start <= t
            assert len(set(number[start : t + 1])) == 1 or window.x[t] == 0
            assert start == 0 or window.start[start - 1] < start
            fresh = t > 0 and number[t] != number[t - 1]
            assert not fresh or start == t


def test_where_every_row_has_one_document_there_are_no_starts() -> None:
    assert PackedDataset(documents([50]), 8).window(0).start is None
    assert PackedDataset(documents([9, 9, 9]), 8, packing="whole").window(0).start is None
    assert PackedDataset(documents([20, 30]), 8, document_mask=False).window(0).start is None
    assert PackedDataset(documents([20, 30]), 8).window(0).start is not None


def test_without_a_document_mask_a_stream_is_that_of_its_tokens() -> None:
    docs = documents([3, 5, 20, 1, 13])
    dataset = PackedDataset(docs, 6, document_mask=False)
    plain = TokenDataset(docs.tokens, 6)
    for i in range(len(plain)):
        assert equal_rows(dataset.window(i), plain.window(i))
    for own, other in islice(zip(dataset.batches(4, 7), plain.batches(4, 7), strict=True), 9):
        assert equal_rows(own, other)


def test_the_rest_of_a_row_is_padding_that_nothing_sees() -> None:
    dataset = PackedDataset(documents([4, 3, 9]), 8, packing="whole")
    x, y, start = dataset.window(0)
    assert x.tolist() == [1, 2, 3, 5, 6, 0, 0, 0]
    assert y.tolist() == [2, 3, 4, 6, 7, -100, -100, -100]
    assert start.tolist() == [0, 0, 0, 3, 3, 5, 5, 5]
    x, y, start = dataset.window(1)
    assert (x.tolist(), y.tolist(), start.tolist()) == (
        [8, 9, 10, 11, 12, 13, 14, 15],
        [9, 10, 11, 12, 13, 14, 15, 16],
        [0] * 8,
    )


@settings(deadline=None)
@given(
    lengths=LENGTHS,
    batch_size=st.integers(1, 9),
    start=st.integers(0, 9),
    packing=st.sampled_from(["stream", "whole"]),
    seed=st.none() | st.just(1),
)
def test_a_stream_of_batches_is_the_contracts_in_two_sets(
    lengths: list[int], batch_size: int, start: int, packing: str, seed: int | None
) -> None:
    dataset = PackedDataset(documents([*lengths, 9], seed), 4, packing=packing)  # type: ignore[arg-type]
    per_epoch = -(-len(dataset) // batch_size)
    stream = dataset.stream(batch_size, 3, start)
    batches = dataset.batches(batch_size, 3, start)
    for number in range(start, start + 4):
        epoch, batch = divmod(number, per_epoch)
        order = dataset.order(3, epoch)[batch * batch_size : (batch + 1) * batch_size]
        rows = [dataset.window(i) for i in order]
        streamed, new = next(stream), next(batches)
        assert equal_rows(streamed, Rows.stack(rows))
        assert equal_rows(streamed, new)
        assert all(array.flags.c_contiguous for array in streamed)
    held = next(stream), next(stream), next(stream)
    assert np.shares_memory(held[0].x, held[2].x)
    assert not np.shares_memory(held[0].x, held[1].x)


def test_memory_is_counted() -> None:
    docs = documents([20, 30], seed=1)
    dataset = PackedDataset(docs, 8)
    assert dataset.nbytes == docs.tokens.nbytes + docs.offsets.nbytes + 50
    assert dataset.stream_bytes(4) == 2 * 3 * 4 * 8 * 4
    assert PackedDataset(documents([50]), 8).stream_bytes(100) == 2 * 2 * 6 * 8 * 4
    assert PackedDataset(docs, 8, packing="whole").nbytes > dataset.nbytes
    assert isinstance(dataset.order(1, 2), KeyedPermutation)
    assert isinstance(dataset, Dataset)


def test_long_rows_of_short_documents_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).integers(2, 500, 20_000).tolist()
    dataset = PackedDataset(documents(lengths), 1024, packing="whole")
    assert (sum(lengths) - len(lengths)) / (1024 * len(dataset)) > 0.98


def test_what_cannot_be_packed_is_refused() -> None:
    docs = documents([3, 2])
    for seq_len in (0, 1.5, True, "8"):
        with pytest.raises(ConfigError, match=r"^seq_len: expected an integer >= 1, got "):
            PackedDataset(docs, seq_len)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r'^packing: expected "stream" or "whole", got '):
        PackedDataset(docs, 4, packing="tight")  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        PackedDataset(docs, 5)
    assert str(caught.value) == (
        "documents: expected at least 6 tokens for one row of seq_len 5 and its last target, got "
        '5; give a longer text, a smaller seq_len, or packing = "whole", which fills rows up'
    )
    with pytest.raises(DataError, match=r"^documents: expected a document of at least 2 tokens, g"):
        PackedDataset(documents([1, 1]), 5, packing="whole")
    docs.learn = np.zeros(5, bool)
    with pytest.raises(DataError) as caught:
        PackedDataset(docs, 2)
    assert str(caught.value) == (
        "documents: expected tokens to learn, got only prompts; give completions, or set "
        "mask_prompt to false"
    )
    for i in (-1, 1):
        with pytest.raises(DataError, match=r"expected a window number in range\(1\), got"):
            PackedDataset(documents([5]), 4).window(i)


@pytest.mark.parametrize("document_mask", [True, False])
@pytest.mark.parametrize("packing", ["stream", "whole"])
@pytest.mark.parametrize("seq_len", [1, 4, 9])
def test_every_row_has_something_to_learn_and_nothing_is_lost(
    packing: str, document_mask: bool, seq_len: int
) -> None:
    pieces = (("p" * 40, False), ("abc", True), ("q" * 7, False), ("de", True), ("r" * 30, False))
    documents = encode_documents(
        [Document(pieces, "one"), Document((("xyz", True),), "two")] * 3, ByteTokenizer()
    )
    dataset = PackedDataset(documents, seq_len, packing=packing, document_mask=document_mask)
    rows = [dataset.window(i) for i in range(len(dataset))]
    assert all((row.y != -100).any() for row in rows)
    targets = np.concatenate([row.y[row.y != -100] for row in rows])
    places = np.flatnonzero(documents.learn)
    if packing == "stream":  # what remains at the end, fewer than seq_len targets, is in no row
        rest = (len(documents.tokens) - 1) % seq_len
        places = places[(places > 0) & (places < len(documents.tokens) - rest)]
    if packing == "whole" or document_mask:  # nothing comes before a document's first token
        places = places[~np.isin(places, documents.offsets)]
    assert sorted(targets.tolist()) == sorted(documents.tokens[places].tolist())
    assert dataset.nbytes > documents.nbytes


def test_only_prompts_are_refused_in_either_packing() -> None:
    documents = encode_documents([Document((("p" * 40, False),), "one")], ByteTokenizer())
    for packing in ("stream", "whole"):
        with pytest.raises(DataError, match="expected tokens to learn, got only prompts"):
            PackedDataset(documents, 4, packing=packing)
