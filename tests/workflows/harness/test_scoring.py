"""Scores of continuations are those of whole passes, whatever rows share one with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm import Transformer, TransformerConfig
from tisslm.errors import ConfigError
from tisslm.optim.losses import CrossEntropy
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.harness import tasks
from tisslm.workflows.harness.scoring import score

V, T = 23, 8
MODEL = Transformer(
    TransformerConfig(family="llama", n_layer=1, n_head=2, n_embd=16, seq_len=T, vocab_size=V),
    seed=3,
)
ids = st.lists(st.integers(0, V - 1), min_size=1, max_size=T - 2)


def expected(context, continuation):
    whole = [*context, *continuation][-T - 1 :]
    count = min(len(continuation), len(whole) - 1)
    logits, _ = MODEL.forward(np.array([whole[:-1]], dtype=np.int32))
    rows = logits[0, -count:].astype(np.float64)
    targets = np.array(whole[-count:])
    top = rows.max(axis=1, keepdims=True)
    log_p = rows - top - np.log(np.exp(rows - top).sum(axis=1, keepdims=True))
    greedy = bool((rows.argmax(axis=1) == targets).all())
    return float(log_p[np.arange(count), targets].sum()), greedy


@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=6), st.integers(1, 4))
def test_scores_are_those_of_whole_passes(pairs, batch_size):
    found = score(MODEL, CrossEntropy(), pairs, batch_size=batch_size)
    for (value, greedy), pair in zip(found, pairs, strict=True):
        wanted, best = expected(*pair)
        assert value == pytest.approx(wanted, rel=1e-5)
        assert greedy == best


def test_the_most_probable_continuation_is_greedy():
    context = [1, 2, 3]
    logits, _ = MODEL.forward(np.array([context], dtype=np.int32))
    best = int(logits[0, -1].argmax())
    found = score(MODEL, CrossEntropy(), [(context, [best]), (context, [best - 1])], batch_size=2)
    assert [one.greedy for one in found] == [True, False]


def test_without_the_harness_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(tasks, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install tisslm\[eval\]"):
        tasks.evaluate_tasks(MODEL, ByteTokenizer(), CrossEntropy(), ["any"])
