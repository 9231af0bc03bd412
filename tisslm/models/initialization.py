"""The parameters of a transformer: names, shapes, and initial values."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import numpy as np

from tisslm.memory import Parameter, Parameters, ParameterSpec
from tisslm.models.layers.norm import NORMS
from tisslm.models.transformer_config import TransformerConfig

__all__ = ["initialize", "parameter_specs"]

BLOCK = 2**18  # numbers that are drawn at once


def parameter_specs(config: TransformerConfig) -> Iterator[ParameterSpec]:
    """Yield the specification of every parameter, in the order of the forward pass.

    Weight decay applies to matrices, embeddings included, and not to biases and norms.
    """
    channels, hidden, norm = config.n_embd, config.n_hidden, NORMS[config.norm]
    yield ParameterSpec("embedding.token.weight", (config.vocab_size, channels))
    yield ParameterSpec("embedding.position.weight", (config.seq_len, channels))
    for i in range(config.n_layer):
        attention, mlp = f"blocks.{i}.attention", f"blocks.{i}.mlp"
        inner = config.n_head * config.head_size
        yield from norm.parameters(f"{attention}.norm", channels, config.bias)
        yield from _linear(f"{attention}.qkv", config.qkv_size, channels, config.bias)
        yield from _linear(f"{attention}.out", channels, inner, config.bias)
        yield from norm.parameters(f"{mlp}.norm", channels, config.bias)
        yield from _linear(f"{mlp}.up", hidden, channels, config.bias)
        yield from _linear(f"{mlp}.down", channels, hidden, config.bias)
    yield from norm.parameters("final_norm", channels, config.bias)
    if not config.tie_embeddings:
        yield ParameterSpec("head.weight", (config.vocab_size, channels))


def _linear(name: str, outputs: int, inputs: int, bias: bool) -> Iterator[ParameterSpec]:
    yield ParameterSpec(f"{name}.weight", (outputs, inputs))
    if bias:
        yield ParameterSpec(f"{name}.bias", (outputs,), decay=False)


def initialize(parameters: Parameters, config: TransformerConfig, seed: int) -> None:
    """Draw initial values: normal with deviation 0.02, residual projections 0.02/sqrt(2 L).

    Norm weights are 1 and biases 0. Each parameter has a random stream of its own, keyed by the
    seed and its name, so that no value depends on which other parameters exist.

    References
    ----------
    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3.
    """
    for parameter in parameters:
        if parameter.name.endswith("bias"):
            parameter.data[...] = 0.0
        elif len(parameter.shape) == 1:
            parameter.data[...] = 1.0
        else:
            residual = parameter.name.endswith(("attention.out.weight", "mlp.down.weight"))
            deviation = 0.02 / math.sqrt(2 * config.n_layer) if residual else 0.02
            _draw_normal(parameter, seed, deviation)


def _draw_normal(parameter: Parameter, seed: int, deviation: float) -> None:
    """Fill a parameter from its random stream, block by block: a whole copy would be the peak."""
    key = [seed % 2**64, zlib.crc32(parameter.name.encode())]
    generator = np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))
    flat = parameter.data.reshape(-1)
    # drawn in float32 for every dtype, so that a float64 twin starts from the same numbers
    block = np.empty(min(flat.size, BLOCK), dtype=np.float32)
    for start in range(0, flat.size, BLOCK):
        drawn = block[: flat.size - start]
        generator.standard_normal(out=drawn, dtype=np.float32)
        drawn *= deviation
        flat[start : start + BLOCK] = drawn
