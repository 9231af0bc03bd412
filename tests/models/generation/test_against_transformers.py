"""The filters are those of Hugging Face transformers: the same tokens, the same probabilities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tisslm.models.generation import Sampling

torch = pytest.importorskip("torch", reason="needs pip install tisslm[test-transformers]")
generation = pytest.importorskip(
    "transformers.generation.logits_process", reason="needs pip install tisslm[test-transformers]"
)

CASES = list(
    itertools.product((0.3, 1.0, 1.7), (0, 1, 7, 50), (0.1, 0.8, 1.0), (0.0, 0.02, 0.5), (1.0, 1.3))
)


@pytest.mark.parametrize(("temperature", "top_k", "top_p", "min_p", "penalty"), CASES)
def test_a_distribution_is_theirs(temperature, top_k, top_p, min_p, penalty):
    rng = np.random.default_rng(top_k + int(100 * top_p))
    logits = rng.normal(scale=3.0, size=211).astype(np.float32)
    earlier = rng.integers(0, 211, 30)
    steps = generation.LogitsProcessorList()  # in the order of GenerationMixin
    if penalty != 1.0:
        steps.append(generation.RepetitionPenaltyLogitsProcessor(penalty))
    if temperature != 1.0:
        steps.append(generation.TemperatureLogitsWarper(temperature))
    if top_k:
        steps.append(generation.TopKLogitsWarper(top_k))
    if top_p < 1.0:
        steps.append(generation.TopPLogitsWarper(top_p))
    if min_p:
        steps.append(generation.MinPLogitsWarper(min_p))
    ids, scores = torch.from_numpy(earlier)[None], torch.from_numpy(logits.copy())[None].double()
    expected = torch.softmax(steps(ids, scores), -1)[0].numpy()
    sampling = Sampling(temperature, top_k, top_p, 42, min_p, penalty)
    found = sampling.distribution(logits, earlier.tolist())
    assert np.array_equal(found > 0, expected > 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # the penalty is applied in float32


def test_the_order_is_that_of_their_generation():
    config = generation_config = pytest.importorskip("transformers").GenerationConfig(
        do_sample=True, temperature=0.7, top_k=5, top_p=0.9, min_p=0.1, repetition_penalty=1.2
    )
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=11))
    steps = model._get_logits_processor(generation_config=config, input_ids_seq_length=1)
    names = [type(step).__name__ for step in steps]
    assert generation_config.do_sample
    assert names == [
        "RepetitionPenaltyLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "MinPLogitsWarper",
    ]
