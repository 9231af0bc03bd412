"""Write what transformers computes for a small model of each family, for where it is not installed.

    pip install torch==2.13.0 transformers==5.24.0
    PYTHONPATH=.:tests python tests/golden/make_families.py

Each ``family_<name>.npz`` has the shape, the weights, a batch, and in float32 the logits, the loss
and every gradient, by our names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers_models import gradients_of, peer_of

from tisslm import Transformer, TransformerConfig

HERE = Path(__file__).parent

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 16, "n_hidden": 24, "seq_len": 50, "vocab_size": 31}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"n_kv_head": 2, "rope_scaling": LLAMA3},
    "mistral": {"n_kv_head": 1, "window": 9, "head_dim": 6},
    "qwen2": {"n_kv_head": 2, "tie_embeddings": True},
    "qwen3": {"n_kv_head": 2, "head_dim": 6},
    "gpt_neox": {"rotary_fraction": 0.5},
}


def main() -> None:
    """Write the files."""
    for family, more in SHAPES.items():
        config = TransformerConfig(family=family, **SIZES, **more)
        rng = np.random.default_rng(7)
        weights = {
            p.name: (0.3 * rng.standard_normal(p.shape) + p.name.endswith("norm.weight")).astype(
                np.float32
            )
            for p in Transformer.of_shapes(config).parameters
        }
        x, y = rng.integers(0, config.vocab_size, (2, 2, config.seq_len), dtype=np.int32)
        y[rng.random(y.shape) < 0.2] = -100
        peer = peer_of(config, weights, "float32")
        logits = peer(torch.from_numpy(x.astype(np.int64))).logits
        flat, targets = logits.reshape(-1, logits.shape[-1]), torch.from_numpy(y).long().reshape(-1)
        loss = torch.nn.functional.cross_entropy(flat, targets, ignore_index=-100)
        loss.backward()
        about = {
            "model": {"family": family, **config.values()},
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        np.savez_compressed(
            HERE / f"family_{family}.npz",
            about=np.array(json.dumps(about)),
            x=x,
            y=y,
            logits=logits.detach().numpy(),
            loss=np.array(loss.item()),
            **{f"weights/{name}": array for name, array in weights.items()},
            **{f"gradient/{name}": array for name, array in gradients_of(config, peer).items()},
        )


if __name__ == "__main__":
    main()
