"""What GPT-2 in PyTorch computes for rows of several documents: a mask and positions, written out.

Nothing here is packed or skipped: every query is compared with every key, and a dense mask of
blocks on the diagonal leaves each token the earlier ones of its document. Used by
``make_golden.py`` and the live tests. Imports torch only.

What does not live here: the model and its parameters (``benchmarks/sides/torch_gpt.py``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["documents_logits", "documents_loss"]


def documents_logits(model: Any, x_BT: Tensor, start_BT: Tensor) -> Tensor:
    """Return the logits (B, T, V) of a ``torch_gpt.GPT``; ``start_BT`` is where documents begin."""
    rows_T = torch.arange(x_BT.shape[1])
    query_T1, key_1T = rows_T[:, None], rows_T[None, :]
    mask_BTT = (key_1T <= query_T1) & (key_1T >= start_BT[:, :, None])
    h_BTC = model.embedding.token(x_BT) + model.embedding.position(rows_T - start_BT)
    for block in model.blocks:
        h_BTC = h_BTC + _attend(block.attention, h_BTC, mask_BTT[:, None])
        h_BTC = h_BTC + block.mlp(h_BTC)
    return functional.linear(model.final_norm(h_BTC), model.embedding.token.weight)


def documents_loss(logits_BTV: Tensor, y_BT: Tensor) -> Tensor:
    """Return the mean cross-entropy over the real targets."""
    return functional.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten(), ignore_index=-100)


def _attend(attention: Any, h_BTC: Tensor, mask_B1TT: Tensor) -> Any:
    B, T, C = h_BTC.shape
    parts = attention.qkv(attention.norm(h_BTC)).split(C, dim=2)
    q, k, v = (part.view(B, T, attention.n_head, -1).transpose(1, 2) for part in parts)
    scores_BHTT = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    shares_BHTT = scores_BHTT.masked_fill(~mask_B1TT, float("-inf")).softmax(dim=3)
    return attention.out((shares_BHTT @ v).transpose(1, 2).reshape(B, T, C))
