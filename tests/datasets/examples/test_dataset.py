"""Rows of examples: their arrays, what is held out, prompts, and texts that are cut."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm.datasets.examples import ExampleDataset, example_source, read_examples
from tisslm.errors import ConfigError, DataError
from tisslm.testing import check_dataset
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer

PAIRS = [{"anchor": f"a{i % 7}", "positive": "p" * (i % 3 + 1)} for i in range(40)]


def made(records: Any = PAIRS, **options: Any) -> ExampleDataset:
    return ExampleDataset(records, ByteTokenizer(), options.pop("seq_len", 16), **options)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_it_keeps_the_contract_of_datasets() -> None:
    assert check_dataset(ExampleDataset).n_assertions > 300


def test_a_row_is_the_texts_side_by_side_with_a_target_at_the_end_of_each() -> None:
    dataset = made([{"anchor": "ab", "positive": "c", "negative": ["def", "g"]}] * 2)
    row = dataset.window(1)
    assert bytes(row.x.tolist()) == b"abcdefg"
    assert row.y.tolist() == [-100, 0, 0, -100, -100, 0, 0]
    assert row.start is None
    assert row.others["lengths"].tolist() == [2, 1, 3, 1]
    assert set(row.others) == {"lengths"}
    assert (dataset.n_texts, len(dataset), dataset.seq_len) == (4, 2, 7)


def test_scores_come_along_and_short_rows_are_padded() -> None:
    records = [
        {"sentence1": "abc", "sentence2": "d", "score": 4},
        {"sentence1": "e", "sentence2": "f", "score": 1},
    ]
    dataset = made(records, score_range=[0, 5])
    rows = next(dataset.batches(2, seed=0))
    order = rows.others["score"].argsort()
    assert rows.others["score"][order].tolist() == [np.float32(0.2), np.float32(0.8)]
    assert bytes(rows.x[order][0].tolist()) == b"ef\0\0"
    assert rows.y[order][0].tolist() == [0, 0, -100, -100]


def test_a_stream_has_the_rows_of_the_keyed_order() -> None:
    dataset = made()
    first = next(dataset.stream(8, seed=3))
    order = dataset.order(3, 0)
    for place in range(8):
        window = dataset.window(order[place])
        assert np.array_equal(first.x[place], window.x)
        assert np.array_equal(first.others["lengths"][place], window.others["lengths"])
    part = next(dataset.stream_part(8, 3, 0, range(2, 5)))
    assert np.array_equal(part.x, first.x[2:5])


def test_no_anchor_is_on_both_sides_of_a_split() -> None:
    train = made(held_out=False, valid_fraction=0.2)
    valid = train.validation()
    assert len(train) + len(valid) == len(PAIRS)
    assert 8 <= len(valid) < 16  # a fifth, and the others of its last anchor
    anchors = [{bytes(d.texts.text(2 * i)) for i in range(len(d))} for d in (train, valid)]
    assert not anchors[0] & anchors[1]
    again = made(PAIRS, held_out=True, valid_fraction=0.2)
    assert again.fingerprint() == valid.fingerprint() != train.fingerprint()


def test_a_number_of_examples_may_be_held_out() -> None:
    records = [{"anchor": str(i), "positive": "p"} for i in range(50)]
    sizes = [len(made(records, held_out=h, valid_examples=9)) for h in (False, True, None)]
    assert sizes == [41, 9, 50]


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        (PAIRS, {"valid_examples": 40}, "records: expected more examples than the 40 to hold out"),
        (PAIRS[:1] * 5, {"valid_fraction": 0.2}, "records, training part: expected an example,"),
        ([], {}, "records: expected an example, got none; add some"),
    ],
)  # fmt: skip
def test_a_side_without_examples_is_refused(
    records: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        made(records, held_out=False, **options)
    assert str(caught.value).startswith(message)


def test_prompts_stand_before_queries_and_documents() -> None:
    dataset = made(PAIRS[:1], query_prompt="q: ", document_prompt="d: ")
    assert bytes(dataset.texts.ids.astype(np.uint8)) == b"q: a0d: p"


def test_an_end_of_text_ends_every_text_also_one_that_is_cut() -> None:
    tokenizer = BpeTokenizer.from_text("xy", vocab_size=257, special_tokens=["<|endoftext|>"])
    end = tokenizer.end_of_text
    records = [{"anchor": "abcdef", "positive": "g"}, {"anchor": "h", "positive": "i"}]
    said = (
        r"^records: 1 of 4 texts have more than 4 tokens, of which the last are cut off; raise "
        r"data.max_text_tokens to read more$"
    )
    with pytest.warns(UserWarning, match=said):
        dataset = ExampleDataset(records, tokenizer, 8, max_text_tokens=4)
    texts = [text.tolist() for text in dataset.texts]
    assert [text[-1] for text in texts] == [end] * 4
    assert [tokenizer.decode(text[:-1]) for text in texts] == ["abc", "g", "h", "i"]


def test_nothing_is_said_of_texts_that_fit() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(PAIRS, seq_len=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_text_tokens": 17}, "data.max_text_tokens: expected at most the model's seq_len, 16"),
        ({"max_text_tokens": 0}, "data.max_text_tokens: expected an integer >= 1, got 0"),
        ({"query_prompt": "q: ", "max_text_tokens": 3},
         "prompt: expected one that leaves room for a text within 3 tokens, got one of 3; shorten"),
        ({"query_prompt": 3}, "data.query_prompt: expected a text, got 3"),
        ({"bad_records": "drop"}, 'data.bad_records: expected "error" or "skip", got \'drop\''),
        ({"valid_fraction": 1.0}, "data.valid_fraction: expected a number in [0, 1), got 1.0"),
        ({"valid_examples": -1}, "data.valid_examples: expected an integer >= 0, got -1"),
    ],
)  # fmt: skip
def test_options_out_of_bounds_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(**options)
    assert str(caught.value).startswith(message)


# ------------------------------------------------------------------------------ files


def test_files_of_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *map(json.dumps, PAIRS))
    assert [example.texts for example in read_examples(path)] == [
        (pair["anchor"], pair["positive"]) for pair in PAIRS
    ]
    assert made(path).fingerprint() == made().fingerprint()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "expected a JSON object, got invalid JSON ("),
        ('{"anchor": "a", "anchor": "b"}', "expected each field once, got 'anchor' twice; mend"),
        ('{"anchor": "a"}', "expected a positive for the anchor, got the fields anchor; write"),
        (
            '["a", "b"]',
            'expected a JSON object, got a list; write each record as {"name": "text", ...}',
        ),
    ],
)
def test_a_bad_line_is_refused_or_counted(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps(PAIRS[0]), line, json.dumps(PAIRS[1]))
    with pytest.raises(DataError) as caught:
        made(path)
    assert str(caught.value).startswith(f"{path}, line 2: {message}")
    with pytest.warns(UserWarning, match=r"a.jsonl: 1 bad record left out, the first: .*, line 2"):
        assert len(made(path, bad_records="skip")) == 2


def test_a_path_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    text = write(tmp_path / "a.txt", "words")
    with pytest.raises(DataError, match=r"a.txt: expected a file of examples \(WordNet's database, "
                       r"JSON lines\), got one of another kind; name its format"):  # fmt: skip
        made(text)
    with pytest.raises(ConfigError, match=r'one of wordnet, jsonl, got "jsonlines". Did you mean'):
        made(text, format="jsonlines")
    with pytest.raises(DataError, match=r"none.jsonl: no such file or folder"):
        made(tmp_path / "none.jsonl")


def test_a_text_that_the_tokenizer_refuses_is_named(tmp_path: Path) -> None:
    from tisslm.tokenizers import CharTokenizer

    path = write(tmp_path / "a.jsonl", *map(json.dumps, PAIRS), '{"anchor": "b", "positive": "ä"}')
    with pytest.raises(DataError, match=r"a.jsonl, line 41: .*ä"):
        ExampleDataset(path, CharTokenizer.from_text("ap0123456b"), 8)


def test_the_choice_of_what_is_held_out_depends_on_the_text_alone() -> None:
    whole = example_source(PAIRS, valid_fraction=0.3)
    held_out = {example.texts[0] for example in whole.part(held_out=True).examples()}
    turned = example_source(PAIRS[::-1], valid_fraction=0.3)
    assert {example.texts[0] for example in turned.part(held_out=True).examples()} == held_out
