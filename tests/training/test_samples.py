"""Samples on the way: keyed draws, written to sinks that take text, and no bit of training."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tisslm import TokenDataset, TrainingConfig, Transformer, TransformerConfig
from tisslm.contracts import Loss, Model, Text
from tisslm.errors import ConfigError
from tisslm.tokenizers import ByteTokenizer, CharTokenizer
from tisslm.tracking.sinks.memory import MemorySink
from tisslm.training.interruption import Leave
from tisslm.training.samples import Sampler, make_sampler

LETTERS = CharTokenizer(characters="\nabcdefghijklmnop")


@pytest.fixture
def dataset(tokens):
    return TokenDataset(tokens, 16, vocab_size=17)


@pytest.fixture
def sampled(make_trainer, tokens):
    """``sampled(folder, **config)``: a trainer that samples every 2 steps, and its sink."""

    def make(folder="run", *, parts=None, **config):
        sink = MemorySink()
        held_out = TokenDataset(tokens[:100], 16, vocab_size=17)
        given = {"sinks": [sink], "tokenizer": LETTERS, "val_dataset": held_out, **(parts or {})}
        settings = {"sample_every": 2, "sample_tokens": 20, "max_steps": 5, **config}
        return make_trainer(folder=folder, parts=given, **settings), sink

    return make


def test_samples_are_due_every_so_many_steps_and_at_the_last(sampled):
    trainer, sink = sampled(sample_prompts=["", "abc"])
    trainer.train()
    found = [row for row in sink.rows if "sample/0" in row]
    assert [row["step"] for row in found] == [2, 4, 5]
    assert all(set(row) == {"step", "sample/0", "sample/1"} for row in found)
    for row in found:
        assert isinstance(row["sample/0"], Text)
        assert len(row["sample/0"].text) == 20
        assert row["sample/1"].text.startswith("abc")
        assert len(row["sample/1"].text) == 23
    assert len({row["sample/0"].text for row in found}) == 3


def test_a_model_that_is_not_causal_is_refused():
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 8, "seq_len": 16, "vocab_size": 17}
    model = Transformer(TransformerConfig(**shape, causal=False))
    config = TrainingConfig(max_steps=2, sample_every=1)
    with pytest.raises(
        ConfigError, match=r"training\.sample_every: expected a model that can write"
    ):
        make_sampler(model, LETTERS, config)


def test_a_model_of_no_numbers_says_so_and_the_run_goes_on(make_model):
    model = make_model()
    model.parameters["final_norm.weight"].data[...] = np.nan
    config = TrainingConfig(sample_every=1, sample_prompts=["ab"])
    found = Sampler(model, LETTERS, config).texts(1, lambda: None)
    assert found["sample/0"].text == "ab (the logits are not finite)"


def test_a_prompt_begins_as_the_tokenizer_says(sampled, monkeypatch):
    prompts = []

    def stream(model, ids, *_, **__):
        prompts.append(ids)
        return iter(())

    monkeypatch.setattr(CharTokenizer, "begin", (3,))
    monkeypatch.setattr("tisslm.training.samples.stream", stream)
    trainer, _ = sampled(sample_prompts=["", "abc"], max_steps=1)
    trainer.train()
    assert prompts == [[3], [3, *LETTERS.encode("abc")]]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_training_has_the_same_bits(sampled, same_bits, precision, checkpointing):
    how = {"precision": precision, "activation_checkpointing": checkpointing}
    how |= {"gradient_accumulation_steps": 2, "validation_frequency": 2, "sample_tokens": 40}
    with_samples, sink = sampled("with", **how)
    without, other = sampled("without", **how | {"sample_every": 0})
    with_samples.train()
    without.train()
    assert same_bits(with_samples, without)
    assert not any("sample/0" in row for row in other.rows)
    losses = [[row["eval/loss"] for row in s.rows if "eval/loss" in row] for s in (sink, other)]
    assert losses[0] == losses[1]


def test_draws_are_keyed_by_seed_step_and_prompt(make_model):
    model = make_model()

    def texts(step, prompts=("", ""), seed=1):
        config = TrainingConfig(
            sample_every=1, sample_prompts=list(prompts), sample_tokens=20, seed=seed
        )
        return [t.text for t in Sampler(model, LETTERS, config).texts(step, lambda: None).values()]

    assert texts(3) == texts(3)
    assert texts(3, ("",)) == texts(3)[:1]
    assert len({*texts(3), *texts(4), *texts(3, seed=2)}) == 6


def test_a_run_that_goes_on_writes_the_same_samples(sampled):
    whole, sink = sampled("whole", save_every=3, max_steps=6)
    whole.train()
    saved = whole.run.checkpoints / "checkpoint-3"
    assert json.loads((saved / "trainer_state.json").read_text())["sampled_step"] == 2
    rest, other = sampled("rest", resume=str(saved), save_every=3, max_steps=6)
    rest.train()
    assert other.values("sample/0") == [pair for pair in sink.values("sample/0") if pair[0] > 3]


def test_samples_that_a_signal_cut_short_are_made_when_the_run_goes_on(sampled, monkeypatch):
    whole, sink = sampled("whole")
    whole.train()
    cut, _ = sampled("cut")
    checks = []

    def texts(step, check):
        checks.append(step)
        if step == 4:
            raise Leave("SIGTERM")
        return Sampler.texts(cut.session.sampler, step, check)

    monkeypatch.setattr(cut.session.sampler, "texts", texts)
    cut.train()
    assert cut.stopped == "SIGTERM"
    assert cut.current_step == 4
    rest, other = sampled("cut", resume="auto")
    rest.train()
    assert other.values("sample/0") == sink.values("sample/0")[1:]


def test_each_token_asks_whether_the_run_is_to_end(make_model):
    asked = []
    config = TrainingConfig(sample_every=1, sample_tokens=7)
    Sampler(make_model(), LETTERS, config).texts(1, lambda: asked.append(1))
    assert len(asked) == 7


def test_an_empty_prompt_is_a_lines_end_that_is_not_shown(make_model):
    config = TrainingConfig(sample_every=1, sample_prompts=["", "\n"], sample_tokens=5)
    found = Sampler(make_model(), LETTERS, config).texts(1, lambda: None)
    assert len(found["sample/0"].text) == 5
    assert found["sample/1"].text.startswith("\n")


def test_a_context_that_fills_up_goes_on(make_model):
    config = TrainingConfig(sample_every=1, sample_prompts=["abc" * 20], sample_tokens=50)
    found = Sampler(make_model(), LETTERS, config).texts(1, lambda: None)
    assert len(found["sample/0"].text) == 60 + 50


# --------------------------------------------------------------------------- bad input


def test_a_prompt_that_cannot_be_read_stops_the_run_before_it_starts(sampled):
    with pytest.raises(ConfigError) as caught:
        sampled(sample_prompts=["abc", "x"])
    assert str(caught.value) == (
        "training.sample_prompts[1]: char tokenizer: the character 'x' (U+0078) at position 0 is "
        "not one of the 17 characters of the training text; remove it, build the tokenizer from a "
        "text that has it, or use the byte tokenizer"
    )


def test_data_without_a_tokenizer_have_no_samples(make_trainer, dataset):
    with pytest.raises(ConfigError) as caught:
        make_trainer(parts={"dataset": dataset}, sample_every=1)
    assert str(caught.value) == (
        "training.sample_every: expected data with a tokenizer, which reads prompts and writes "
        "text, got none; give the Trainer a tokenizer, or set it to 0"
    )


def test_a_model_that_writes_no_text_has_no_samples():
    class Other(Model):
        vocab_size, seq_len = 256, 8

        def forward(self, x, *, train=False, start=None):
            return np.zeros((*x.shape, 256), np.float32), None

        def backward(self, d_logits, cache):
            pass

        def step_loss(self, batch, loss: Loss, *, gradient=True, train=True, first_row=0):
            return 0.0

    with pytest.raises(ConfigError) as caught:
        make_sampler(Other(), ByteTokenizer(), TrainingConfig(sample_every=1))
    assert str(caught.value) == (
        "training.sample_every: expected a model that can write text token by token, such as a "
        "causal Transformer, got Other; set it to 0"
    )
    assert make_sampler(Other(), None, TrainingConfig()) is None


def test_the_plan_counts_the_keys_and_values(sampled):
    with_samples, _ = sampled("with")
    without, _ = sampled("without", sample_every=0)
    shape = with_samples.model.config
    cache = 2 * shape.n_layer * shape.n_kv_head * shape.seq_len * shape.head_dim * 4
    assert with_samples.planned - without.planned == cache
