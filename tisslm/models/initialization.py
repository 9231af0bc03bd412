"""The parameters of a transformer: names, shapes, and initial values."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from tisslm import ops
from tisslm.config.model import TransformerConfig
from tisslm.memory import Parameter, ParameterSpec
from tisslm.models.layers.norm import NORMS

__all__ = ["LORA_A", "LORA_B", "initialize", "parameter_specs"]

#: How the names of an adapter's two matrices end.
LORA_A, LORA_B = "lora_a", "lora_b"

BLOCK = 2**18  # numbers that are drawn at once


def parameter_specs(config: TransformerConfig) -> Iterator[ParameterSpec]:
    """Yield the specification of every parameter, in the order of the forward pass.

    Weight decay applies to matrices, embeddings included, and not to biases and norms. With muP,
    matrices from one wide vector to another have base / width of the learning rate.
    """
    channels, norm = config.n_embd, NORMS[config.norm]
    yield ParameterSpec("embedding.token.weight", (config.vocab_size, channels), storable=True)
    if config.positions == "learned":
        yield ParameterSpec("embedding.position.weight", (config.seq_len, channels))
    for i in range(config.n_layer):
        yield from norm.parameters(f"blocks.{i}.attention.norm", channels, bool(config.norm_bias))
        yield from _attention(f"blocks.{i}.attention", config)
        yield from norm.parameters(f"blocks.{i}.mlp.norm", channels, bool(config.norm_bias))
        yield from _mlp(f"blocks.{i}.mlp", config)
    yield from norm.parameters("final_norm", channels, bool(config.norm_bias))
    if config.embeds:
        yield from _vectors(config)
    elif not config.tie_embeddings:
        yield ParameterSpec("head.weight", (config.vocab_size, channels), storable=True)


def _vectors(config: TransformerConfig) -> Iterator[ParameterSpec]:
    """Yield what makes vectors of pooled rows, and the logarithm of 1 / temperature."""
    if config.projection:
        yield ParameterSpec("pooling.projection.weight", (config.projection, config.n_embd))
    if config.logit_scale:
        yield ParameterSpec("pooling.logit_scale", (1,), decay=False)


def _attention(name: str, config: TransformerConfig) -> Iterator[ParameterSpec]:
    """Yield the maps of attention, and the weights of the norms of queries and keys."""
    heads, shared, size = config.n_head, config.n_kv_head, config.head_dim
    blocks = (("q", heads * size), ("k", shared * size), ("v", shared * size))
    yield from _linear(f"{name}.qkv", blocks, config.n_embd, config.qkv_bias, config.width_ratio)
    if config.qk_norm != "none":
        for part, count in (("q", heads), ("k", shared)):
            width = size if config.qk_norm == "head" else count * size
            yield ParameterSpec(f"{name}.{part}_norm.weight", (width,), decay=False)
    out, ratio = (("out", config.n_embd),), config.width_ratio
    yield from _linear(f"{name}.out", out, heads * size, config.out_bias, ratio)


def _mlp(name: str, config: TransformerConfig) -> Iterator[ParameterSpec]:
    """Yield the maps of the MLP; a gate is a part of the map upwards."""
    hidden, ratio = config.n_hidden, config.width_ratio
    blocks = (("gate", hidden), ("up", hidden)) if config.gated else (("up", hidden),)
    yield from _linear(f"{name}.up", blocks, config.n_embd, config.mlp_bias, ratio)
    yield from _linear(f"{name}.down", (("down", config.n_embd),), hidden, config.mlp_bias, ratio)


def _linear(
    name: str,
    blocks: tuple[tuple[str, int], ...],
    inputs: int,
    bias: bool | None,
    ratio: float,
) -> Iterator[ParameterSpec]:
    """Yield a matrix, whose rows are those of one map or of several, and a bias if there is one.

    ``ratio`` is the matrix's share of the learning rate.
    """
    outputs = sum(rows for _, rows in blocks)
    named = blocks if len(blocks) > 1 else ()
    yield ParameterSpec(
        f"{name}.weight", (outputs, inputs), lr_scale=ratio, storable=True, blocks=named
    )
    if bias:
        yield ParameterSpec(f"{name}.bias", (outputs,), decay=False, blocks=named)


def initialize(parameters: Iterable[Parameter], config: TransformerConfig, seed: int) -> None:
    """Draw initial values: normal with deviation 0.02, residual projections 0.02/sqrt(2 L).

    With muP, both are times sqrt(base / width) for matrices from one wide vector to another, which
    leaves out embeddings and head. Norm weights are 1 and biases 0. Of an adapter, A is uniform
    within 1 / sqrt(C) and B is 0, so that it begins by adding nothing. Each parameter has a random
    stream of its own, keyed by the seed and its name, so that no value depends on which other
    parameters exist.

    References
    ----------
    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3.
    Yang et al., "Tensor Programs V", arXiv 2203.03466, table 8.
    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
    """
    for parameter in parameters:
        if parameter.name == "pooling.logit_scale":
            parameter.data[...] = math.log(config.logit_scale)
        elif parameter.name.endswith(("bias", LORA_B)):
            parameter.data[...] = 0.0
        elif parameter.name.endswith(LORA_A):
            _draw_uniform(parameter, seed, 1 / math.sqrt(parameter.shape[1]))
        elif len(parameter.shape) == 1:
            parameter.data[...] = 1.0
        else:
            residual = parameter.name.endswith(("attention.out.weight", "mlp.down.weight"))
            deviation = 0.02 / math.sqrt(2 * config.n_layer) if residual else 0.02
            if parameter.name.startswith("blocks."):
                deviation *= math.sqrt(config.width_ratio)
            _draw_normal(parameter, seed, deviation)


def _generator(parameter: Parameter, seed: int) -> np.random.Generator:
    """Return the random stream of a parameter."""
    key = [seed % 2**64, zlib.crc32(parameter.name.encode())]
    return np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))


def _draw_normal(parameter: Parameter, seed: int, deviation: float) -> None:
    """Fill a parameter from its random stream, block by block: a whole copy would be the peak."""
    generator, flat = _generator(parameter, seed), parameter.data.reshape(-1)
    # drawn in float32 for every dtype, so that a float64 twin starts from the same numbers
    block = np.empty(min(flat.size, BLOCK), dtype=np.float32)
    for start in range(0, flat.size, BLOCK):
        drawn = block[: flat.size - start]
        generator.standard_normal(out=drawn, dtype=np.float32)
        drawn *= deviation
        ops.store(flat[start : start + BLOCK], drawn)


def _draw_uniform(parameter: Parameter, seed: int, most: float) -> None:
    """Fill a small parameter with numbers between ``-most`` and ``most``."""
    drawn = _generator(parameter, seed).random(parameter.shape, dtype=np.float32)
    ops.store(parameter.data, (2 * drawn - 1) * np.float32(most))
