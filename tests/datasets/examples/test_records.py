"""The fields of a record, and a sentence for each thing that may be wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tisslm.datasets.examples.records import Example, ExampleForm
from tisslm.errors import ConfigError, DataError

WANTED = (
    '{"anchor": ..., "positive": ...}, with "negative" (a text or a list of them) or '
    '"negative_1", "negative_2", ..., or {"sentence1": ..., "sentence2": ..., "score": ...}'
)
PAIR = {"anchor": "a", "positive": "b"}
SCORED = {"sentence1": "a", "sentence2": "b", "score": 0.5}


def read(*records: dict[str, Any], score_range: Sequence[float] = (0, 1)) -> Example:
    form = ExampleForm(score_range)
    return [form.example(record, f"f, line {i}") for i, record in enumerate(records, 1)][-1]


@pytest.mark.parametrize(
    ("record", "texts"),
    [
        (PAIR, ("a", "b")),
        (PAIR | {"negative": "c"}, ("a", "b", "c")),
        (PAIR | {"negative": ["c", "d"]}, ("a", "b", "c", "d")),
        (PAIR | {"negative_2": "d", "negative_1": "c"}, ("a", "b", "c", "d")),
        (PAIR | {"negative": []}, ("a", "b")),
    ],
)
def test_the_texts_of_a_record_have_an_order(
    record: dict[str, Any], texts: tuple[str, ...]
) -> None:
    assert read(record) == Example(texts, None, "f, line 1")


@pytest.mark.parametrize(
    ("score", "bounds", "found"), [(1, (0, 1), 1.0), (2.5, [0, 5], 0.5), (-1.0, (-1, 1), -1.0)]
)
def test_scores_are_divided_by_the_largest(
    score: float, bounds: Sequence[float], found: float
) -> None:
    assert read(SCORED | {"score": score}, score_range=bounds).score == found


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [{"anchor": "a"}],
            f"1: expected a positive for the anchor, got the fields anchor; write records as "
            f"{WANTED}",
        ),
        (
            [{"text": "a"}],
            f"1: expected {WANTED}; got a field 'text'. Rename or remove it",
        ),
        (
            [PAIR | {"negatives": ["c"]}],
            f"1: expected {WANTED}; got a field 'negatives'. Did you mean 'negative'? Rename or "
            "remove it",
        ),
        (
            [{"sentence1": "a", "sentence2": "b"}],
            "1: expected a field 'score', got the fields sentence1, sentence2; write records as "
            f"{WANTED}",
        ),
        ([PAIR | {"positive": " \n"}], "1: expected 'positive' to be a text, got an empty one; "
         "fill it or remove the record"),
        ([PAIR | {"anchor": 3}], "1: expected 'anchor' to be a text, got a number; mend or remove "
         "the record"),
        ([PAIR | {"negative": ["c", None]}], "1: expected 'negative[1]' to be a text, got null; "
         "mend or remove the record"),
        ([PAIR | {"negative": {}}], "1: expected 'negative' to be a text, got an object; mend or "
         "remove the record"),
        ([PAIR | {"negative_2": "c"}], "1: expected 'negative_1' before 'negative_2', got none; "
         "number the negatives from 1 on"),
        ([PAIR | {"positive": "\ud800"}], "1: expected Unicode text, got the lone surrogate "
         "U+D800; mend or remove the record"),
        ([PAIR | {"negative": ["c", "d"]}, PAIR | {"negative": "c"}],
         "2: expected 2 negatives, as the first record has, got 1; give every record as many"),
        ([PAIR, SCORED], "2: expected anchor and positive, as the first record has, got a score; "
         "keep the two kinds of records in files of their own"),
        ([SCORED, SCORED | {"score": 1.5}], "2: expected a score from 0 to 1, got 1.5; mend the "
         "record, or set data.score_range to the least and the largest score"),
        ([SCORED | {"score": float("nan")}], "1: expected a score from 0 to 1, got nan; mend the "
         "record, or set data.score_range to the least and the largest score"),
        ([SCORED | {"score": True}], "1: expected 'score' to be a number, got a boolean; mend or "
         "remove the record"),
    ],
)  # fmt: skip
def test_a_bad_record_is_refused_in_a_sentence(records: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(*records)
    assert str(caught.value) == f"f, line {message}"


@pytest.mark.parametrize("bounds", [(1, 0), (0, 0), (-2, 1), (0,), "01", (0, float("inf")), 1])
def test_a_range_that_is_none_is_refused(bounds: Any) -> None:
    with pytest.raises(ConfigError, match=r"^data.score_range: expected the least and the largest"):
        ExampleForm(bounds)
