"""The sizes: their formulas against the package's own counts, their keys against its presets."""

from __future__ import annotations

import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.config.model.presets import preset


@pytest.mark.parametrize("bias", [False, True])
def test_parameters_and_operations_are_those_that_the_package_counts(script, bias):
    """The package counts no table that is only looked up; the benchmark counts its positions."""
    for size in script("sizes").NAMED.values():
        model = Transformer.of_shapes(TransformerConfig(**size.model(bias)))
        assert size.parameters(bias) == model.parameters.count, str(size)
        looked_up = size.time * size.n_embd if size.family.learned_positions else 0
        found = size.flops_per_token(bias) - 6 * looked_up
        assert found == model.flops_per_token(size.time), str(size)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        ("llama-tiny", "llama-tiny"),
        ("smollm2-135m-4x256", "smollm2-135m"),
        ("qwen2.5-0.5b-1x256", "qwen2.5-0.5b"),
    ],
)
def test_a_size_of_a_preset_is_that_model(script, size, name):
    found = script("sizes").NAMED[size].model(bias=True)
    seen = {key: found[key] for key in ("seq_len", "vocab_size")}
    assert TransformerConfig(**found) == TransformerConfig(**(preset(name) | seen))


def test_a_size_says_what_it_is(script):
    sizes = script("sizes")
    assert str(sizes.parse_size("1,2,16,11,2,8")) == "L1 H2 C16 V11 B2 T8"
    named = sizes.parse_size("smollm2-135m-4x256")
    assert str(named) == "L30 H9 C576 V49152 llama K3 F1536 B4 T256"


def test_a_size_has_the_peers_of_its_family(script):
    command, sizes = script("command"), script("sizes")
    gpt2, llama = (sizes.parse_size(name) for name in ("char", "llama-tiny"))
    assert command.parse_peers(None, gpt2) == ("torch", "torch-compile")
    assert command.parse_peers(None, llama) == ("transformers", "transformers-compile")
    assert command.parse_peers("", llama) == ()
    with pytest.raises(ValueError, match=r"transformers-compile for a size .* got 'torch'"):
        command.parse_peers("torch", llama)
