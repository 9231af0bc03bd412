"""What ``check_model`` finds in models that do not do what they say."""

from __future__ import annotations

import pytest

from tisslm import Transformer
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
