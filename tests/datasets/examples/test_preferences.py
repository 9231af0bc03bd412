"""Rows of pairs: their arrays, what is learned of them, what is cut, held out, and refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_templates import PLAIN, tokenizer_with

from tisslm.datasets.examples import PreferenceDataset, read_preferences
from tisslm.errors import ConfigError, DataError
from tisslm.testing import check_dataset
from tisslm.tokenizers import ByteTokenizer

PAIRS = [{"prompt": f"p{i % 7}", "chosen": "c" * (i % 3 + 1), "rejected": "r"} for i in range(40)]


def made(records: Any = PAIRS, **options: Any) -> PreferenceDataset:
    return PreferenceDataset(records, ByteTokenizer(), options.pop("seq_len", 16), **options)


def said(*contents: str, first: str = "user") -> list[dict[str, str]]:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]


def test_it_keeps_the_contract_of_datasets() -> None:
    assert check_dataset(PreferenceDataset).n_assertions > 300


def test_a_row_is_both_texts_and_learns_the_answers_alone() -> None:
    dataset = made([{"prompt": "ab", "chosen": "cd", "rejected": "efg"}, PAIRS[0]])
    row = dataset.window(0)
    assert bytes(row.x.tolist()) == b"abcabef"
    shown = [-100, *b"cd", -100, *b"efg"]
    assert row.y.tolist() == shown
    assert row.start is None
    assert row.others["pair"].tolist() == [3, 4]
    assert set(row.others) == {"pair"}
    assert dataset.window(1).x.tolist()[4:] == [0, 0, 0]
    assert (len(dataset), dataset.seq_len) == (2, 7)


def test_a_reference_comes_along_once_it_is_known() -> None:
    dataset = made()
    before = dataset.fingerprint()
    dataset.reference = np.arange(80.0).reshape(40, 2)
    assert dataset.window(3).others["reference"].tolist() == [6, 7]
    batch = next(dataset.batches(5, 1))
    assert batch.others["reference"].shape == (5, 2)
    assert dataset.fingerprint() == before


def test_long_answers_are_cut_and_counted() -> None:
    records = [{"prompt": "ab", "chosen": "c" * 9, "rejected": "d"}, PAIRS[0]]
    with pytest.warns(
        UserWarning, match=r"records: 1 of 4 answers have no room in 5 tokens beside"
    ):
        dataset = made(records, seq_len=5)
    assert dataset.window(0).others["pair"].tolist() == [5, 2]
    assert dataset.window(0).y.tolist()[:5] == [-100, *b"cccc"]


def test_pairs_of_one_prompt_are_held_out_together() -> None:
    train = made(valid_fraction=0.3, held_out=False)
    valid = train.validation()
    assert len(train) + len(valid) == 40
    assert len(valid) >= 12
    prompts = [{bytes(d.window(i).x[:2].tolist()) for i in range(len(d))} for d in (train, valid)]
    assert not prompts[0] & prompts[1]


@pytest.mark.parametrize("prompted", [True, False])
def test_messages_are_written_by_the_template_and_only_the_answer_is_learned(
    prompted: bool,
) -> None:
    pytest.importorskip("jinja2")
    tokenizer = tokenizer_with(PLAIN["chatml"])
    prompt, answers = (
        said("hi", "yes?", "name"),
        [said("red", first="assistant"), said("an ox", first="assistant")],
    )
    record = {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}
    if not prompted:
        record = {"chosen": prompt + answers[0], "rejected": prompt + answers[1]}
    dataset = PreferenceDataset([record], tokenizer, 256)
    row = dataset.window(0)
    cut = int(row.others["pair"][0])
    ids, _ = tokenizer.encode_chat(prompt + answers[0])
    assert row.x[:cut].tolist() == list(ids[:-1])
    learned = tokenizer.decode(row.y[:cut][row.y[:cut] >= 0].tolist())
    assert "red" in learned
    assert "yes?" not in learned


def test_messages_in_the_plain_form_learn_the_answer_alone() -> None:
    record = {
        "prompt": said("a", "b", "c"),
        "chosen": said("d", first="assistant"),
        "rejected": said("e", first="assistant"),
    }
    row = made([record], chat="plain", seq_len=128).window(0)
    cut = int(row.others["pair"][0])
    text = b"user:\na\n\nassistant:\nb\n\nuser:\nc\n\nassistant:\nd\n\n"
    assert bytes(row.x[:cut].tolist()) == text[:-1]
    assert bytes(row.y[:cut][row.y[:cut] >= 0].tolist()) == b"d\n\n"


GOOD = {"prompt": "p", "chosen": "c", "rejected": "r"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "p", "rejected": "r", "id": 7}, "expected a field 'chosen', got the fields id"),
        ({"chosen": "c", "rejected": "r"}, "expected a field 'prompt', got the fields chosen"),
        ({**GOOD, "rejected": None}, "expected a field 'rejected', got the fields chosen, prompt"),
        ({**GOOD, "rejected": "c"}, "expected two answers that differ, got the same one twice"),
        ({**GOOD, "chosen": " "}, "expected 'chosen' to be a text, got an empty one; fill it"),
        ({**GOOD, "prompt": ""}, "expected 'prompt' to be a text, got an empty one; fill it"),
        ({**GOOD, "chosen": 3}, "expected 'chosen' to be a string, got a number; write records"),
        ({**GOOD, "prompt": 3}, "'prompt' to be a string or a list of messages, got a number"),
        ({**GOOD, "chosen": said("a")}, "expected 'chosen' to be a string, got a list; write"),
        ({**GOOD, "chosen": "c" * 9, "prompt": "p" * 20}, "chosen: expected a prompt that leaves"),
        ({**GOOD, "rejected": "r\ud800"}, "expected Unicode text, got the lone surrogate U+D800"),
        (
            {"prompt": "p" * 15, "chosen": "cde", "rejected": "cdf"},
            "expected two answers that differ, got two of the same 16 tokens; raise model.seq_len",
        ),
        (
            {"prompt": said("a"), "chosen": said("b"), "rejected": said("c", first="assistant")},
            "chosen: expected a text to learn, got an empty one",
        ),
        (
            {"prompt": said("a"), "chosen": ["b"], "rejected": said("c", first="assistant")},
            "chosen, message 0: expected an object with role and content, got a string",
        ),
        (
            {"prompt": [], "chosen": said("b", first="assistant"), "rejected": said("c")},
            "expected a prompt before the answers, got none; add one, or remove the record",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bad_records_are_named_or_left_out(
    tmp_path: Path, record: dict[str, Any], message: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (GOOD, record)), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is cut
        with pytest.raises(DataError, match=r"pairs\.jsonl, line 2") as caught:
            made(path, chat="plain")
    assert message in str(caught.value)
    with pytest.warns(UserWarning, match=r"1 bad record left out, the first: .*line 2"):
        assert len(made(path, chat="plain", bad_records="skip")) == 1


def test_files_without_a_pair_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "a"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"expected a pair, got none; .*line 1: expected a field"):
        made(path, bad_records="skip")
    with pytest.raises(DataError, match=r"none\.jsonl: no such file or folder"):
        made(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"expected a pair, got none, since all have one prompt"):
        made([GOOD, {**GOOD, "chosen": "d"}], valid_examples=1, held_out=False)


def test_messages_need_a_template() -> None:
    record = {
        "prompt": said("a"),
        "chosen": said("b", first="assistant"),
        "rejected": said("c", first="assistant"),
    }
    with pytest.raises(ConfigError, match=r"expected a tokenizer with a chat template"):
        made([record])


def test_reading_gives_the_preferences_in_order() -> None:
    found = list(read_preferences(PAIRS[:2]))
    assert [each.key for each in found] == ["p0", "p1"]
    assert [answer.text for answer in found[1].answers] == ["p1cc", "p1r"]
