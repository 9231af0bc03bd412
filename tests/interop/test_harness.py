"""Tasks on this machine, run by lm-evaluation-harness: its figures are our losses."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest

from tisslm import TokenDataset, Transformer, TransformerConfig
from tisslm.errors import ConfigError, DataError
from tisslm.models.generation import Sampling, opening, sample
from tisslm.optim.losses import CrossEntropy
from tisslm.tokenizers import ByteTokenizer
from tisslm.training.evaluation import evaluate
from tisslm.workflows.harness import evaluate_tasks

pytest.importorskip("lm_eval", reason="needs pip install tisslm[eval]")

TEXT = "All bottles are green, and some of them fall off the wall. "
ROLLING = """\
task: rolling
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {folder}/texts.jsonl
output_type: loglikelihood_rolling
test_split: validation
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: bits_per_byte
"""
CHOICE = """\
task: choice
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {folder}/questions.jsonl
output_type: multiple_choice
validation_split: validation
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
"""
ANSWER = """\
task: answer
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {folder}/answers.jsonl
output_type: generate_until
validation_split: validation
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["\\n\\n"]
  max_gen_toks: 12
metric_list:
  - metric: exact_match
"""


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def model():
    config = TransformerConfig(
        family="llama", n_layer=2, n_head=2, n_embd=32, seq_len=96, vocab_size=256
    )
    return Transformer(config, seed=11)


def write(folder, name, text, lines):
    (folder / f"{name}.yaml").write_text(text.format(folder=folder))
    file = {"rolling": "texts", "choice": "questions", "answer": "answers"}[name]
    (folder / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def log_probability(model, context, continuation):
    whole = np.frombuffer((context + continuation).encode(), np.uint8).astype(np.int32)
    logits, _ = model.forward(whole[None, :-1])
    rows = logits[0, -len(continuation) :].astype(np.float64)
    log_p = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return log_p[np.arange(len(continuation)), whole[-len(continuation) :]].sum()


def test_the_loss_of_a_text_is_ours(tmp_path, model):
    texts = [TEXT, TEXT[10:50], TEXT * 4]  # the last is longer than a row
    write(tmp_path, "rolling", ROLLING, [{"text": text} for text in texts[:2]])
    tokenizer, loss = ByteTokenizer(), CrossEntropy()
    (found,) = evaluate_tasks(model, tokenizer, loss, ["rolling"], include_path=tmp_path)
    total, nbytes = 0.0, 0
    for text in texts[:2]:
        ids = [*opening(tokenizer)[:1], *tokenizer.encode(text)]
        one = TokenDataset(np.array(ids), len(ids) - 1, vocab_size=256)
        total += evaluate(model, one, loss).loss * (len(ids) - 1)
        nbytes += len(text.encode())
    assert found.samples == 2
    wanted = total / nbytes / math.log(2)
    assert found.metrics["bits_per_byte"] == pytest.approx(wanted, rel=1e-5)
    write(tmp_path, "rolling", ROLLING, [{"text": text} for text in texts])
    (longer,) = evaluate_tasks(model, tokenizer, loss, ["rolling"], include_path=tmp_path)
    assert math.isfinite(longer.metrics["bits_per_byte"])


def test_choices_and_answers_are_those_of_the_model(tmp_path, model):
    tokenizer = ByteTokenizer()
    question = "What is green?"
    said = "".join(sample(model, tokenizer, question, 12, Sampling(0.0), stop=["\n\n"]))
    write(tmp_path, "answer", ANSWER, [{"question": question, "answer": said}])
    choices = ["ab", "Zq", "::"]
    chances = [log_probability(model, "green?", f" {choice}") for choice in choices]
    best = int(np.argmax(chances))
    lines = [{"question": "green?", "choices": choices, "answer": best}] * 3
    write(tmp_path, "choice", CHOICE, lines)
    answer, choice = evaluate_tasks(
        model, tokenizer, CrossEntropy(), ["answer", "choice"], include_path=tmp_path
    )
    assert answer.metrics["exact_match"] == 1.0
    assert (choice.samples, choice.metrics["acc"]) == (3, 1.0)


def test_what_the_harness_does_not_know_is_named(tmp_path, model):
    loss = CrossEntropy()
    with pytest.raises(ConfigError, match="unknown task 'no-such-task'"):
        evaluate_tasks(model, ByteTokenizer(), loss, ["no-such-task"])
    with pytest.raises(ConfigError, match="--include-path: expected a folder"):
        evaluate_tasks(model, ByteTokenizer(), loss, ["x"], include_path=tmp_path / "none")
    write(tmp_path, "rolling", ROLLING, [{"text": "x"}])
    (tmp_path / "texts.jsonl").unlink()
    with pytest.raises(DataError, match="--tasks rolling: the harness gave up"):
        evaluate_tasks(model, ByteTokenizer(), loss, ["rolling"], include_path=tmp_path)
