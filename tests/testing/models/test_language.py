"""What ``check_model`` finds in models that do not do what they say."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import Transformer
from tisslm.contracts import Exchange
from tisslm.models.families.gpt2.family import GPT2
from tisslm.testing import ConformanceError, check_model


class Keeping(GPT2):
    """A family whose models keep an array that they were given once."""

    def build(self, config, **options):
        model = super().build(config, **options)
        weight = model.head.project.weight
        kept = weight.data

        class Kept:
            data, shape, name, grad_to_write = kept, weight.shape, "kept", weight.grad_to_write
            trainable = True

        model.head.project.weight = Kept
        return model


def test_a_model_that_keeps_an_array_is_found():
    with pytest.raises(ConformanceError, match="values that are brought as they are asked for"):
        check_model(Keeping, options={"n_layer": 1, "n_embd": 8, "n_head": 2, "seq_len": 12,
                                      "vocab_size": 11, "tie_embeddings": False})  # fmt: skip


def test_a_model_that_does_not_claim_it_may(monkeypatch):
    monkeypatch.setattr(Transformer, "asks_for_values", False)
    assert check_model(Keeping, options={"n_layer": 1, "n_embd": 8, "n_head": 2, "seq_len": 12,
                                         "vocab_size": 11, "tie_embeddings": False})  # fmt: skip


class Rounded(Exchange):
    """Names that lead back to other bits."""

    config = {"model_type": "rounded"}  # noqa: RUF012

    def outward(self, arrays):
        return {f"x.{name}": array.astype(np.float16) for name, array in arrays.items()}

    def inward(self, arrays):
        return {name[2:]: array.astype(np.float32) for name, array in arrays.items()}


def test_names_outside_that_do_not_lead_back_are_found(monkeypatch):
    small = {"n_layer": 1, "n_embd": 8, "n_head": 2, "seq_len": 12, "vocab_size": 11}
    assert check_model(GPT2, options=small)
    monkeypatch.setattr(Transformer, "exchange", lambda self: Rounded())
    with pytest.raises(ConformanceError, match=r"the bits of embedding\.token\.weight back"):
        check_model(GPT2, options=small)
    monkeypatch.setattr(Rounded, "config", {1: ()})
    with pytest.raises(ConformanceError, match="a configuration of plain values"):
        check_model(GPT2, options=small)
    monkeypatch.setattr(Transformer, "exchange", lambda self: None)
    assert check_model(GPT2, options=small)
