"""Adapters as GGUF: names, order of rows, the scale, and what the format has no tensor for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm import TransformerConfig
from tisslm.config import AdapterConfig
from tisslm.errors import ConfigError
from tisslm.models.gguf.arrays import neighbours_together
from tisslm.models.gguf.writing_adapter import write_gguf_adapter
from tisslm.models.tuning.tuning import Tuning
from tisslm.system.gguf_files import GgufFile

SHAPE = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 16, "vocab_size": 33}


def drawn(config: TransformerConfig, adapter: AdapterConfig) -> dict[str, Any]:
    rng, specs = np.random.default_rng(0), Tuning(adapter=adapter).specs(config)
    return {s.name: rng.normal(size=s.shape).astype(np.float32) for s in specs if s.trainable}


def test_tensors_are_called_as_those_that_they_are_beside(tmp_path: Path) -> None:
    config = TransformerConfig(**SHAPE, family="llama", n_kv_head=2)
    adapter = AdapterConfig(rank=4, alpha=6.0, rslora=True, targets=["q", "v", "o", "gate"])
    arrays = drawn(config, adapter)
    write_gguf_adapter(tmp_path / "a.gguf", config, adapter, arrays)
    file = GgufFile(tmp_path / "a.gguf")
    assert file.metadata["general.type"] == "adapter"
    assert file.metadata["adapter.type"] == "lora"
    assert file.metadata["adapter.lora.alpha"] == 12.0  # divided by 4 there: 6 / sqrt(4)
    names = [
        f"blk.{i}.{n}" for i in (0, 1) for n in ("attn_q", "attn_v", "attn_output", "ffn_gate")
    ]
    assert sorted(file) == sorted(f"{n}.weight.lora_{end}" for n in names for end in "ab")
    q = "blocks.1.attention.qkv.q"
    assert np.array_equal(file["blk.1.attn_q.weight.lora_a"], arrays[f"{q}.lora_a"])
    expected = neighbours_together(arrays[f"{q}.lora_b"], 4)
    assert np.array_equal(file["blk.1.attn_q.weight.lora_b"], expected)
    expected = arrays["blocks.0.attention.qkv.v.lora_b"]
    assert np.array_equal(file["blk.0.attn_v.weight.lora_b"], expected)


def test_a_part_of_a_tensor_of_theirs_is_refused(tmp_path: Path) -> None:
    config, adapter = TransformerConfig(**SHAPE), AdapterConfig(rank=2, targets=["q"])
    with pytest.raises(ConfigError, match="architecture gpt2 has no tensor of q alone"):
        write_gguf_adapter(tmp_path / "a.gguf", config, adapter, drawn(config, adapter))
    assert not (tmp_path / "a.gguf").exists()
