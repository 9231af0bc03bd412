"""What ``check_model`` finds in encoders that do not do what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.models.families.gpt2.family import GPT2
from tisslm.models.families.llama.family import Llama
from tisslm.testing import ConformanceError, check_model

SMALL = {"n_layer": 1, "n_embd": 8, "n_head": 2, "seq_len": 12, "vocab_size": 11}


@pytest.mark.parametrize("family", [GPT2, Llama])
@pytest.mark.parametrize("pooling", ["mean", "last", "max"])
def test_our_encoders_keep_the_contract(family, pooling):
    own = {"projection": 6, "logit_scale": 5.0, "dropout": 0.1, "causal": pooling == "last"}
    assert check_model(family, options={**SMALL, **own, "pooling": pooling}).n_assertions > 40


def beside_others(embed: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self, texts, **how):
        vectors_PE, cache = embed(self, texts, **how)
        return vectors_PE + 1e-6 * vectors_PE.mean(axis=0), cache

    return wrong


def in_another_type(embed: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self, texts, **how):
        vectors_PE, cache = embed(self, texts, **how)
        return vectors_PE.astype(np.float64), cache

    return wrong


def drawn_anew(embed: Callable[..., Any]) -> Callable[..., Any]:
    calls = []

    def wrong(self, texts, *, first_row=0, **how):
        calls.append(1)
        return embed(self, texts, first_row=first_row + len(calls), **how)

    return wrong


def of_constant_vectors(embed: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self, texts, **how):
        vectors_PE, cache = embed(self, texts, **how)
        return np.full_like(vectors_PE, vectors_PE.shape[1] ** -0.5), cache

    return wrong


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (beside_others, "the vector of a text beside others"),
        (in_another_type, "the type of the vectors"),
        (drawn_anew, "the bits of the pass that a backward follows"),
        (of_constant_vectors, "another vector of another text"),
    ],
)
def test_a_wrong_pass_is_found(monkeypatch, fault, message):
    monkeypatch.setattr(TextEncoder, "embed", fault(TextEncoder.embed))
    with pytest.raises(ConformanceError, match=message):
        check_model(GPT2, options={**SMALL, "pooling": "mean", "normalize": False, "dropout": 0.5})


@pytest.mark.parametrize(
    ("factors", "message"),
    [((1.001,), "the slope that backward_embedded says"), ((1, 1, 2), "gradients of two passes")],
)
def test_a_wrong_backward_is_found(monkeypatch, factors, message):
    backward, calls = TextEncoder.backward_embedded, []

    def wrong(self, d_vectors_PE, cache):
        factor = factors[min(len(calls), len(factors) - 1)]
        calls.append(factor)
        backward(self, d_vectors_PE * factor, cache)

    monkeypatch.setattr(TextEncoder, "backward_embedded", wrong)
    with pytest.raises(ConformanceError, match=message):
        check_model(GPT2, options={**SMALL, "pooling": "mean"})


def test_lengths_that_are_said_are_checked(monkeypatch):
    build = GPT2.build

    def wrong(self, config, **how):
        encoder = build(self, config, **how)
        encoder.normalized = True
        return encoder

    monkeypatch.setattr(GPT2, "build", wrong)
    with pytest.raises(ConformanceError, match="lengths of the vectors"):
        check_model(GPT2, options={**SMALL, "pooling": "mean", "normalize": False})
