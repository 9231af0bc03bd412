"""Angles of every kind of scaling beside those of Hugging Face transformers, where it is installed.

Frequencies have its bits but for a few channels, in which PyTorch's power in float32 is one unit in
the last place off the rounded power: 6 of 1440 here. Where they have, so has every angle, and a
cosine or sine is within the one unit that PyTorch's own may be off.
"""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.config.model.rope_scaling import RopeScaling
from tisslm.models.rotary import Rotary

torch = pytest.importorskip("torch", reason="needs pip install tisslm[test-transformers]")
transformers = pytest.importorskip(
    "transformers", reason="needs pip install tisslm[test-transformers]"
)

LENGTH, POSITIONS = 131_072, 9000

KINDS = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "llama3": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    "llama3 of no length": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.5,
                            "high_freq_factor": 3.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768},
    "yarn, mscale": {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096,
                     "mscale": 1.0, "mscale_all_dim": 0.707},
    "yarn, fractions": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 16.0, "beta_slow": 2.0,
                        "original_max_position_embeddings": 4096, "truncate": False},
    "yarn, attention": {"rope_type": "yarn", "factor": 3.0, "attention_factor": 1.25,
                        "original_max_position_embeddings": 512},
}  # fmt: skip


def embedding(head_dim, fraction, theta, kind):
    """Return the module of transformers that computes cosines and sines."""
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    transformers.logging.set_verbosity_error()
    sizes = {
        "hidden_size": 4 * head_dim,
        "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
    }
    given = {"rope_theta": theta, **kind}
    if fraction == 1:
        config = transformers.LlamaConfig(head_dim=head_dim, rope_parameters=given, **sizes)
        return LlamaRotaryEmbedding(config)
    given["partial_rotary_factor"] = fraction
    return GPTNeoXRotaryEmbedding(transformers.GPTNeoXConfig(rope_parameters=given, **sizes))


def units_apart(found, expected):
    size = np.maximum(np.abs(found), np.abs(expected))
    return np.abs(found.astype(np.float64) - expected) / np.spacing(size)


@pytest.mark.filterwarnings("ignore")  # those of the peer
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_every_kind_has_the_angles_of_transformers(kind):
    n_channels = n_other = 0
    for theta in (1e4, 5e5, 1e6):
        for head_dim, fraction in ((32, 1.0), (64, 1.0), (80, 0.25), (96, 1.0), (128, 1.0)):
            theirs = embedding(head_dim, fraction, theta, kind)
            ours = Rotary(head_dim, fraction, theta, RopeScaling.parse(kind, LENGTH))
            assert ours.scaling.magnitude == theirs.attention_scaling
            apart = units_apart(ours.frequencies(), theirs.inv_freq.numpy())
            # a smooth factor between two bounds, a difference, enlarges what its power is off
            assert apart.max() <= 4
            same = apart == 0
            n_channels, n_other = n_channels + same.size, n_other + (~same).sum()
            pair = theirs(torch.zeros(1, 1, 1), torch.arange(POSITIONS)[None])
            for found, expected in zip(ours.tables(POSITIONS), pair, strict=True):
                expected = expected[0, :, : ours.n_pairs].numpy()
                bound = 1 if ours.scaling.magnitude == 1 else 2  # the product is rounded, too
                assert units_apart(found[:, same], expected[:, same]).max() <= bound
    assert n_other <= 0.02 * n_channels
