"""Vectors of held-out texts: each embedded once, found, ordered, and told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from letters import Letters
from thread_ranks import run_ranks

from tisslm.contracts import EmbeddingLoss, PooledBatch, PooledValue
from tisslm.datasets import TokenDataset
from tisslm.datasets.examples import ExampleDataset
from tisslm.errors import DataError
from tisslm.tokenizers import ByteTokenizer
from tisslm.training.evaluation import TextEvaluation, evaluate_texts


class Spread(EmbeddingLoss):
    """The mean distance of anchor and positive, and how many examples it saw at a time."""

    needs_others = True

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def value(self, pooled: PooledBatch, *, gradient: bool = True) -> PooledValue:
        assert not gradient
        self.sizes.append(pooled.embeddings_KNE.shape[1])
        a, b = pooled.embeddings_KNE[:2]
        assert np.array_equal(pooled.text_ids_KN[0] == pooled.text_ids_KN[1], (a == b).all(axis=1))
        return PooledValue(float(np.abs(a - b).sum(axis=1).mean()))


def dataset(*records: dict[str, Any]) -> ExampleDataset:
    return ExampleDataset(records, ByteTokenizer(), 32)


PAIRS = [
    {"anchor": "a", "positive": "aa"},  # found first
    {"anchor": "c", "positive": "cd"},  # behind "c"
    {"anchor": "d", "positive": "c"},  # behind "cd" and, in a tie, behind others
    {"anchor": "a", "positive": "aaab"},  # of the same anchor: right, too
]


def test_anchors_look_for_their_positives_among_all_texts() -> None:
    model = Letters()
    found = evaluate_texts(model, dataset(*PAIRS))
    assert sorted(model.seen) == sorted({t.encode() for pair in PAIRS for t in pair.values()})
    assert found.examples == 4
    assert found.measures["recall_at_1"] == pytest.approx((0.5 + 0 + 0) / 3)
    assert found.measures["accuracy_at_1"] == pytest.approx(1 / 3)
    assert found.measures["recall_at_5"] == 1.0
    assert found.measures["mrr_at_10"] == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    assert "triplet_accuracy" not in found.measures
    assert "eval/loss" not in found.metrics()
    assert found.metrics()["eval/recall_at_1"] == found.measures["recall_at_1"]


def test_hard_negatives_are_searched_and_told_apart() -> None:
    records = [
        {"anchor": "a", "positive": "ab", "negative": ["c", "a"]},
        {"anchor": "c", "positive": "cd", "negative": ["d", "e"]},
    ]
    found = evaluate_texts(Letters(), dataset(*records))
    assert found.measures["triplet_accuracy"] == 0.75
    assert found.measures["accuracy_at_1"] == 0.0  # "a" and "c" themselves are negatives


def test_similarities_are_correlated_with_scores() -> None:
    records = [
        {"sentence1": "a", "sentence2": b, "score": score}
        for b, score in (("b", 0.1), ("ab", 0.3), ("aab", 0.5), ("a", 1.0))
    ]
    found = evaluate_texts(Letters(), dataset(*records))
    assert found.measures.keys() == {"spearman", "pearson"}
    assert found.measures["spearman"] == 1.0
    assert 0.8 < found.measures["pearson"] < 0.9


def test_the_loss_is_a_mean_over_batches_and_one_example_alone_is_left_out() -> None:
    loss = Spread()
    found = evaluate_texts(Letters(), dataset(*PAIRS, PAIRS[0]), loss, loss_batch=2)
    assert loss.sizes == [2, 2]
    assert found.loss == pytest.approx((1 + 3 + 1 + 2) / 4)
    assert found.metrics()["eval/loss"] == found.loss


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_the_result_does_not_depend_on_the_size_of_passes(batch_size: int) -> None:
    whole = evaluate_texts(Letters(), dataset(*PAIRS), Spread())
    found = evaluate_texts(Letters(), dataset(*PAIRS), Spread(), batch_size=batch_size)
    assert (found.measures, found.loss) == (whole.measures, whole.loss)


def test_some_examples_are_spread_evenly() -> None:
    model = Letters()
    records = [{"anchor": letter, "positive": letter * 2} for letter in "abcdef"]
    found = evaluate_texts(model, dataset(*records), batch_size=1, max_batches=3)
    assert found.examples == 3
    assert sorted(model.seen) == [b"a", b"aa", b"c", b"cc", b"e", b"ee"]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_out_the_passes_and_find_the_same(size: int) -> None:
    alone = evaluate_texts(Letters(), dataset(*PAIRS), Spread(), batch_size=1)
    models = [Letters() for _ in range(size)]

    def evaluate(communicator: Any) -> TextEvaluation:
        model = models[communicator.rank]
        return evaluate_texts(
            model, dataset(*PAIRS), Spread(), batch_size=1, communicator=communicator
        )

    for found in run_ranks(size, evaluate):
        assert (found.measures, found.loss) == (alone.measures, alone.loss)
    assert max(len(model.seen) for model in models) < 6


def test_a_check_ends_it_and_windows_of_tokens_are_refused() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_texts(Letters(), dataset(*PAIRS), check=stop)
    with pytest.raises(DataError, match=r"^evaluation: expected windows with the lengths of their"):
        evaluate_texts(Letters(), TokenDataset(np.arange(9), 4))
