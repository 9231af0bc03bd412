"""From a model to a GGUF file that llama.cpp runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.config.model import TransformerConfig
from tisslm.contracts import Model, Tokenizer
from tisslm.errors import CheckpointError, ConfigError
from tisslm.memory import ParameterSpec
from tisslm.models.gguf.architectures import OF_FAMILY, Architecture, Part, parts_of
from tisslm.models.gguf.arrays import neighbours_together
from tisslm.models.gguf.reading import ACTIVATION
from tisslm.models.gguf.rope import FACTORS, factors_of, scaling_keys
from tisslm.models.gguf.writing_vocabulary import vocabulary_keys
from tisslm.models.initialization import parameter_specs
from tisslm.models.mup import folded
from tisslm.system.durable import replacing
from tisslm.system.gguf_files import Tensor, gguf_chunks
from tisslm.system.gguf_files.kinds import TensorKind, tensor_kind

__all__ = ["DTYPES", "write_gguf"]

Array = NDArray[Any]

#: Types of weights: GGUF's name, and the number that a file says for the whole.
DTYPES = {"fp32": ("F32", 0), "fp16": ("F16", 1), "bf16": ("BF16", 32), "q8_0": ("Q8_0", 7)}

#: The largest number of float16.
_F16_MAX = 65504.0


def write_gguf(
    path: str | Path, model: Model, tokenizer: Tokenizer | None, dtype: str = "fp32"
) -> list[str]:
    """Write a model and its tokenizer as a GGUF file, which replaces an older one atomically.

    Matrices have the type that is asked for; norms, biases and learned positions are float32. One
    tensor is in memory beside the model at a time.

    Parameters
    ----------
    path : str or Path
    model : Model
        A Transformer of one of the families ``gpt2``, ``llama``, ``mistral``, ``qwen2``, ``qwen3``
        and ``gpt_neox``.
    tokenizer : Tokenizer or None
        Of byte pairs over bytes, or of bytes. None: the file takes ids alone.
    dtype : {"fp32", "fp16", "bf16", "q8_0"}

    Returns
    -------
    list of str
        What is not as asked for, in a sentence each.

    Raises
    ------
    ConfigError
        If the format cannot say what the model computes or how the tokenizer splits texts.
    CheckpointError
        If the file cannot be written, or float16 cannot hold a weight.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"GGUF: expected a dtype of {', '.join(DTYPES)}, got {dtype!r}")
    architecture, config = _shape_of(model)
    config, arrays = folded(config, model.parameters.state())
    name, file_type = DTYPES[dtype]
    metadata = {
        "general.architecture": architecture.name,
        "general.type": "model",
        "general.file_type": file_type,
        "general.quantization_version": 2,
        **({ACTIVATION: config.activation} if architecture.leaves_activation else {}),
        **{f"{architecture.name}.{key}": value for key, value in _keys(architecture, config)},
        **vocabulary_keys(tokenizer, config.vocab_size),
    }
    tensors, notes = _tensors(arrays, architecture, config, tensor_kind(name))
    if config.activation == "gelu":
        notes.append(
            "the model computes GELU exactly, llama.cpp its approximation by tanh: logits differ "
            "in the third digit"
        )
    try:
        with replacing(Path(path)) as file:
            for chunk in gguf_chunks(metadata, tensors):
                file.write(chunk)
    except OSError as error:
        raise CheckpointError(
            f"{path}: could not be written ({error.strerror or error}); nothing is left behind. "
            "Choose another path or free space"
        ) from error
    return notes


def _shape_of(model: Model) -> tuple[Architecture, TransformerConfig]:
    """Return the architecture and the shape of a model, if GGUF can say all of it."""
    config, architecture = model.config, OF_FAMILY.get(model.family)
    if architecture is None or not isinstance(config, TransformerConfig):
        raise ConfigError(
            f"GGUF: expected a model of the families {', '.join(OF_FAMILY)}, got "
            f"{model.family or type(model).__name__!r}"
        )
    for key, possible in architecture.says.items():
        if (value := getattr(config, key)) not in possible:
            raise _unsayable(architecture, key, value)
    if not config.causal:
        raise _unsayable(architecture, "causal", config.causal)
    if any(0 < config.window_of(i) < config.seq_len for i in range(config.n_layer)):
        raise _unsayable(architecture, "window", config.window)
    if architecture.one_kv and config.n_kv_head != config.n_head:
        raise _unsayable(architecture, "n_kv_head", config.n_kv_head)
    if architecture.one_kv and config.n_head * config.head_dim != config.n_embd:
        raise _unsayable(architecture, "head_dim", config.head_dim)
    if scaling_keys(config.rope_scaling, config.seq_len) is None:
        raise _unsayable(architecture, "rope_scaling", config.rope_scaling)
    return architecture, config


def _unsayable(architecture: Architecture, key: str, value: object) -> ConfigError:
    return ConfigError(
        f"GGUF: llama.cpp's architecture {architecture.name} has nothing for model.{key} = "
        f"{value!r:.200}; export with --format hf instead"
    )


def _keys(architecture: Architecture, config: TransformerConfig) -> list[tuple[str, Any]]:
    """Return the keys of the architecture without their prefix."""
    rms = "_rms" if architecture.rms else ""
    found: dict[str, Any] = {
        "block_count": config.n_layer,
        "context_length": config.seq_len,
        "embedding_length": config.n_embd,
        "feed_forward_length": config.n_hidden,
        "attention.head_count": config.n_head,
        "attention.head_count_kv": config.n_kv_head,
        f"attention.layer_norm{rms}_epsilon": float(config.norm_eps),
        "vocab_size": config.vocab_size,
    }
    if not architecture.one_kv:
        found |= {
            "attention.key_length": config.head_dim,
            "attention.value_length": config.head_dim,
        }
    if config.positions == "rotary":
        found["rope.dimension_count"] = int(config.head_dim * config.rotary_fraction)
        found["rope.freq_base"] = float(config.rope_theta)
        found |= scaling_keys(config.rope_scaling, config.seq_len) or {}
    if architecture.name == "gptneox":
        found["use_parallel_residual"] = config.parallel_residual
    return list(found.items())


def _tensors(
    arrays: Mapping[str, Array],
    architecture: Architecture,
    config: TransformerConfig,
    kind: TensorKind,
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors, and what is to be said of them.

    Biases that the architecture cannot be without are zeros, which change nothing.
    """
    needed = dict.fromkeys(architecture.needs, True)
    untied = {"tie_embeddings": False} if architecture.untied else {}
    full = config.model_copy(update={**needed, **untied})
    found: dict[str, Tensor] = {}
    if (config.rope_scaling or {}).get("rope_type") == "llama3":
        turned = int(config.head_dim * config.rotary_fraction)
        make = partial(factors_of, config.rope_scaling or {}, turned, config.rope_theta)
        found[FACTORS] = Tensor((turned // 2,), tensor_kind("F32"), make)
    others = set()
    for spec in parameter_specs(full):
        for part in parts_of(spec, architecture, config):
            own = _kind(part, kind)
            if own.per_block < kind.per_block and own.name != "F32":
                others.add(part.shape[-1])
            found[part.name] = Tensor(part.shape, own, _numbers(arrays, spec, part, own))
    notes = []
    if others:
        notes.append(
            f"rows of {', '.join(map(str, sorted(others)))} numbers are not whole blocks of "
            f"{kind.per_block}: these tensors are F16"
        )
    return found, notes


def _kind(part: Part, wanted: TensorKind) -> TensorKind:
    if len(part.shape) == 1 or part.name == "position_embd.weight":
        return tensor_kind("F32")
    return wanted if part.shape[-1] % wanted.per_block == 0 else tensor_kind("F16")


def _numbers(
    arrays: Mapping[str, Array], spec: ParameterSpec, part: Part, kind: TensorKind
) -> Callable[[], Array]:
    """Return a function that makes the numbers of a tensor."""

    def make() -> Array:
        name = spec.name
        if name == "head.weight" and name not in arrays:  # tied
            name = "embedding.token.weight"
        if name not in arrays:
            return np.zeros(part.shape, np.float32)
        x = arrays[name][part.rows]
        if kind.name == "F16" and max(x.max(), -x.min()) > _F16_MAX:
            raise CheckpointError(
                f"GGUF: {part.name} has a number above {_F16_MAX:.0f}, which fp16 cannot hold; "
                "export with --dtype bf16 or fp32"
            )
        return neighbours_together(x, part.heads) if part.heads else x

    return make
