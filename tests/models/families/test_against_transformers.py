"""Each family against its class in Hugging Face transformers: logits, gradients, fifty updates.

Needs transformers and PyTorch: ``pip install tisslm[test-transformers]``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tolerances import largest_error
from transformers_models import gradients_of, peer_of

from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.contracts import Batch, target_weights
from tisslm.optim.losses.cross_entropy import CrossEntropy

torch = pytest.importorskip("torch", reason="needs pip install tisslm[test-transformers]")
pytest.importorskip("transformers", reason="needs pip install tisslm[test-transformers]")

Array = NDArray[Any]

# Relative to the largest element. float32: what the project promises; two blocks round by about
# 1e-6. float64: two orders of the same operations.
LOGITS = {"float32": 1e-5, "float64": 1e-10}
GRADIENTS = {"float32": 1e-4, "float64": 1e-10}

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 300, "vocab_size": 61}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 75}

CASES: dict[str, dict[str, Any]] = {
    "gpt2": {"family": "gpt2"},
    "gpt2 untied": {"family": "gpt2", "tie_embeddings": False, "activation": "gelu_tanh"},
    "llama": {"family": "llama"},
    "llama tied": {"family": "llama", "tie_embeddings": True, "n_kv_head": 2},
    "llama biases": {"family": "llama", "bias": True, "norm_bias": False},
    "llama wide heads": {"family": "llama", "head_dim": 24, "n_kv_head": 1},
    "llama llama3": {"family": "llama", "rope_scaling": LLAMA3, "n_kv_head": 2},
    "llama linear": {"family": "llama", "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "llama yarn": {"family": "llama", "rope_scaling": YARN},
    "mistral": {"family": "mistral", "n_kv_head": 2, "window": 40},
    "mistral tied": {"family": "mistral", "tie_embeddings": True, "window": 7, "head_dim": 16},
    "qwen2": {"family": "qwen2", "n_kv_head": 2},
    "qwen2 tied": {
        "family": "qwen2",
        "n_kv_head": 2,
        "tie_embeddings": True,
        "window": 33,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "qwen3": {"family": "qwen3", "n_kv_head": 2, "head_dim": 16},
    "qwen3 tied": {"family": "qwen3", "tie_embeddings": True, "head_dim": 12, "rope_scaling": YARN},
    "gpt_neox": {"family": "gpt_neox"},
    "gpt_neox tied": {"family": "gpt_neox", "tie_embeddings": True, "rotary_fraction": 0.5},
    "gpt_neox in turns": {"family": "gpt_neox", "parallel_residual": False, "rotary_fraction": 1.0},
}


def drawn(config: TransformerConfig, seed: int) -> dict[str, Array]:
    """Draw weights of a size that lets every part matter."""
    rng = np.random.default_rng(seed)
    model = Transformer.of_shapes(config)
    return {
        p.name: (
            (1.0 if p.name.endswith("norm.weight") else 0.0) + 0.2 * rng.standard_normal(p.shape)
        ).astype(np.float32)
        for p in model.parameters
    }


def ours(config: TransformerConfig, weights: dict[str, Array], dtype: str) -> Transformer:
    model = Transformer(config, seed=0, dtype=dtype)
    for parameter in model.parameters:
        parameter.data[...] = weights[parameter.name]
        parameter.grad[...] = np.nan  # a fresh gradient is overwritten, or this shows
    model.parameters.zero_grad()
    return model


def rows(config: TransformerConfig, batch: int, time: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, config.vocab_size, (batch, time), dtype=np.int32)
    y = rng.integers(0, config.vocab_size, (batch, time), dtype=np.int32)
    return x, np.where(rng.random(y.shape) < 0.2, np.int32(-100), y)


def loss_of(peer: Any, x: Array, y: Array) -> Any:
    logits = peer(torch.from_numpy(x.astype(np.int64))).logits
    flat = logits.reshape(-1, logits.shape[-1])
    targets = torch.from_numpy(y.astype(np.int64)).reshape(-1)
    return logits, torch.nn.functional.cross_entropy(flat, targets, ignore_index=-100)


@pytest.mark.parametrize("dtype", LOGITS)
@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_every_gradient(case: str, dtype: str) -> None:
    config = TransformerConfig(**{**SIZES, **CASES[case]})
    weights = drawn(config, seed=1)
    peer, model = peer_of(config, weights, dtype), ours(config, weights, dtype)
    x, y = rows(config, 2, 300, seed=2)
    theirs, loss = loss_of(peer, x, y)
    loss.backward()

    logits, _ = model.forward(x)
    assert largest_error(logits, theirs.detach().numpy()) <= LOGITS[dtype]
    batch = Batch(x, y, target_weights(y, model.parameters.dtype))
    assert model.step_loss(batch, CrossEntropy()) == pytest.approx(loss.item(), rel=LOGITS[dtype])
    expected = gradients_of(config, peer)
    assert set(expected) == {p.name for p in model.parameters}
    errors = {p.name: largest_error(p.grad, expected[p.name]) for p in model.parameters}
    # softmax does not see the keys' bias: its gradient is zero, and rounding is all there is
    unseen = {n for n in errors if n.endswith("qkv.bias") and config.positions == "learned"}
    assert all(e <= GRADIENTS[dtype] for n, e in errors.items() if n not in unseen), errors


@pytest.mark.parametrize("case", ["gpt2", "llama tied", "mistral", "qwen2", "qwen3", "gpt_neox"])
def test_fifty_updates_of_adamw(case: str) -> None:
    config = TransformerConfig(**{**SIZES, **CASES[case]})
    weights = {name: array * 0.5 for name, array in drawn(config, seed=3).items()}
    peer, model = peer_of(config, weights, "float32"), ours(config, weights, "float32")
    peer.train()
    rate, decay = 1e-3, 0.1
    flat = [p for p in peer.parameters() if p.ndim == 1]
    matrices = [p for p in peer.parameters() if p.ndim > 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-8)
    trainer = Trainer(
        model,
        optimizer=("adamw", {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": decay}),
        loss_fn="cross_entropy",
        scheduler="constant",
        config=TrainingConfig(batch_size=2, learning_rate=rate, max_grad_norm=1.0, max_steps=50),
        sinks=(),
    )
    for step in range(50):
        x, y = rows(config, 2, 60, seed=100 + step)
        _, loss = loss_of(peer, x, y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        assert trainer.train_step(x, y) == pytest.approx(loss.item(), abs=1e-3), step
