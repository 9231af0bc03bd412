"""From a GGUF file to what a model is built from: settings, arrays, and the tokenizer's state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tisslm.config.model import TransformerConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.gguf.architectures import ARCHITECTURES, Architecture, Part, parts_of
from tisslm.models.gguf.arrays import GgufArrays
from tisslm.models.gguf.metadata import Keys
from tisslm.models.gguf.rope import FACTORS, scaling_of
from tisslm.models.gguf.vocabulary import read_vocabulary
from tisslm.models.initialization import parameter_specs
from tisslm.models.published import Published
from tisslm.system.gguf_files import GgufFile
from tisslm.system.safe_files import Refusal, show

__all__ = ["ACTIVATION", "read_gguf"]

#: A key of ours, for what an architecture leaves open: its files do not say which GELU they mean.
ACTIVATION = "tisslm.activation"

_REFUSAL = Refusal(CheckpointError, "cannot be read as a model", "give another GGUF file")

#: Types of tensors that are no weights.
_INTEGERS = ("I8", "I16", "I32", "I64")


def read_gguf(path: str | Path, *, tokenizer: bool = True) -> Published:
    """Read the metadata of a GGUF file; its tensors are read when they are asked for.

    Parameters
    ----------
    path : str or Path
    tokenizer : bool
        Whether the vocabulary is read, too.

    Returns
    -------
    Published
        ``seq_len`` is the file's context length.

    Raises
    ------
    CheckpointError
        If it is no such file, or of an architecture, a scaling of positions or a vocabulary that
        is not known here; if its metadata say of the mathematics what is not computed here; if a
        tensor is missing, of another shape, or one too many.
    """
    file, where = GgufFile(path), str(path)
    keys = Keys(file.metadata, "general", where, _REFUSAL)
    name = keys.text("architecture")
    if name not in ARCHITECTURES:
        raise keys.refused(
            f"expected an architecture of {', '.join(ARCHITECTURES)}, got {show(name)}"
        )
    if file.metadata.get("split.count", 1) != 1:
        raise keys.refused(
            f"it is one of {show(file.metadata['split.count'])} files; join them with "
            "llama-gguf-split --merge"
        )
    architecture = ARCHITECTURES[name]
    keys = Keys(file.metadata, name, where, _REFUSAL)
    settings = _settings(file, architecture, keys)
    arrays = GgufArrays(file, _parts(file, architecture, settings, keys))
    vocabulary = Keys(file.metadata, "tokenizer", where, _REFUSAL)
    return Published(settings, arrays, where, read_vocabulary(vocabulary) if tokenizer else None)


def _settings(file: GgufFile, architecture: Architecture, keys: Keys) -> dict[str, Any]:
    """Return family and shape."""
    rms = "_rms" if architecture.rms else ""
    heads, width = keys.count("attention.head_count"), keys.count("embedding_length")
    size = keys.count("attention.key_length", max(1, width // heads))
    found: dict[str, Any] = {
        "family": architecture.family,
        "n_layer": keys.count("block_count"),
        "n_head": heads,
        "n_embd": width,
        "seq_len": keys.count("context_length"),
        "vocab_size": _vocab_size(file, keys),
        "n_kv_head": keys.count("attention.head_count_kv", heads),
        "head_dim": size,
        "n_hidden": keys.count("feed_forward_length", 4 * width),
        "norm_eps": keys.number(f"attention.layer_norm{rms}_epsilon"),
        "tie_embeddings": "output.weight" not in file,
        **_biases(file, architecture),
        **architecture.defaults,
    }
    if keys.count("attention.value_length", size) != size:
        raise keys.refused("expected values as long as keys, attention.value_length says another")
    if architecture.says["positions"] == ("rotary",):
        found |= _rotary(file, architecture, keys, size)
    if architecture.name == "gptneox":
        found["parallel_residual"] = keys.flag("use_parallel_residual", True)
    if architecture.name == "llama" and "attention.sliding_window" in keys:
        found |= {"family": "mistral", "window": keys.count("attention.sliding_window")}
    said = file.metadata.get(ACTIVATION)
    if architecture.leaves_activation and said in architecture.says["activation"]:
        found["activation"] = said
    keys.check_rest(size)
    return found


def _vocab_size(file: GgufFile, keys: Keys) -> int:
    place = file.tensors.get("token_embd.weight")
    if place is None:
        raise keys.refused("expected a tensor token_embd.weight, got none")
    return place.shape[0]


def _biases(file: GgufFile, architecture: Architecture) -> dict[str, bool]:
    """Return which maps and norms have biases, which is told from the tensors of the first block.

    That the other blocks are alike is checked when all tensors are compared.
    """
    qkv = "attn_qkv" if architecture.fused else "attn_q"
    tensors = {
        "qkv_bias": qkv, "out_bias": "attn_output", "mlp_bias": "ffn_up", "norm_bias": "attn_norm",
    }  # fmt: skip
    found = {key: f"blk.0.{name}.bias" in file for key, name in tensors.items()}
    return {"bias": found["mlp_bias"], **found}


def _rotary(file: GgufFile, architecture: Architecture, keys: Keys, size: int) -> dict[str, Any]:
    turned, theta = keys.count("rope.dimension_count", size), keys.number("rope.freq_base", 1e4)
    if turned > size or (turned != size and "rotary_fraction" in architecture.says):
        raise keys.refused(
            f"rope.dimension_count: expected {size}, the channels of a head, got {turned}"
        )
    factors = file[FACTORS] if FACTORS in file and file.tensors[FACTORS].nbytes < 2**16 else None
    scaling = scaling_of(keys, factors, turned, theta)
    return {"rope_theta": theta, "rotary_fraction": turned / size, "rope_scaling": scaling}


def _parts(
    file: GgufFile, architecture: Architecture, settings: Mapping[str, Any], keys: Keys
) -> dict[str, tuple[tuple[int, ...], list[Part]]]:
    """Return the tensors of each parameter, after comparing all of them with the settings."""
    try:
        config = TransformerConfig(**settings)
    except ConfigError as error:
        raise keys.refused(f"its metadata do not go together: {error}") from None
    found: dict[str, tuple[tuple[int, ...], list[Part]]] = {}
    for spec in parameter_specs(config):  # one after another, however many layers the file says
        parts = list(parts_of(spec, architecture, config))
        for part in parts:
            place = file.tensors.get(part.name)
            if place is None or place.shape != part.shape or place.kind.name in _INTEGERS:
                got = "none" if place is None else f"one of {place.kind.name} and {place.shape}"
                raise keys.refused(
                    f"expected a tensor {part.name} of floating-point numbers and shape "
                    f"{part.shape}, got {got}"
                )
        found[spec.name] = (spec.shape, parts)
    known = {part.name for _, parts in found.values() for part in parts}
    if config.positions == "rotary":
        known.add(FACTORS)
    for name in file:
        if name not in known:
            raise keys.refused(
                f"it has a tensor {show(name)}, which {architecture.name} has not; what it is for "
                "is not computed here"
            )
    return found
