"""GPT-2 in PyTorch, as nanoGPT trains it: the model and optimizer that TissLM is held against.

Its parameters have TissLM's names and shapes, so weights go from one to the other by name.
Used by the benchmark's peer and by the tests against PyTorch. Imports torch only.

What does not live here: timing, files.

References
----------
Radford et al., Language Models are Unsupervised Multitask Learners (2019).
nanoGPT, https://github.com/karpathy/nanoGPT: the training recipe.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GPT", "make_adamw", "train_update"]


class Attention(nn.Module):
    """Pre-norm causal self-attention."""

    def __init__(self, n_embd: int, n_head: int, bias: bool) -> None:
        super().__init__()
        self.n_head = n_head
        self.norm = nn.LayerNorm(n_embd, bias=bias)
        self.qkv = nn.Linear(n_embd, 3 * n_embd, bias=bias)
        self.out = nn.Linear(n_embd, n_embd, bias=bias)

    def forward(self, h_BTC: Tensor) -> Tensor:
        B, T, C = h_BTC.shape
        parts = self.qkv(self.norm(h_BTC)).split(C, dim=2)
        q, k, v = (part.view(B, T, self.n_head, -1).transpose(1, 2) for part in parts)
        y_BHTD = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return cast(Tensor, self.out(y_BHTD.transpose(1, 2).reshape(B, T, C)))


class MLP(nn.Module):
    """Pre-norm two-layer perceptron with GELU."""

    def __init__(self, n_embd: int, bias: bool, activation: str) -> None:
        super().__init__()
        self.approximate = {"gelu": "none", "gelu_tanh": "tanh"}[activation]
        self.norm = nn.LayerNorm(n_embd, bias=bias)
        self.up = nn.Linear(n_embd, 4 * n_embd, bias=bias)
        self.down = nn.Linear(4 * n_embd, n_embd, bias=bias)

    def forward(self, h_BTC: Tensor) -> Tensor:
        a_BTF = functional.gelu(self.up(self.norm(h_BTC)), approximate=self.approximate)
        return cast(Tensor, self.down(a_BTF))


class Block(nn.Module):
    """Attention, then the MLP, each added to the residual stream."""

    def __init__(self, n_embd: int, n_head: int, bias: bool, activation: str) -> None:
        super().__init__()
        self.attention = Attention(n_embd, n_head, bias)
        self.mlp = MLP(n_embd, bias, activation)

    def forward(self, h_BTC: Tensor) -> Tensor:
        h_BTC = h_BTC + self.attention(h_BTC)
        return cast(Tensor, h_BTC + self.mlp(h_BTC))


class Embedding(nn.Module):
    """The sum of token and learned position embeddings."""

    def __init__(self, vocab_size: int, seq_len: int, n_embd: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, n_embd)
        self.position = nn.Embedding(seq_len, n_embd)

    def forward(self, x_BT: Tensor) -> Tensor:
        rows_T = torch.arange(x_BT.shape[1], device=x_BT.device)
        return cast(Tensor, self.token(x_BT) + self.position(rows_T))


class GPT(nn.Module):
    """GPT-2 without dropout; the output matrix is the token embedding.

    Parameters
    ----------
    n_layer, n_head, n_embd, seq_len, vocab_size : int
        L, H, C, the number of positions, V.
    bias : bool
        Whether linear layers and norms have one.
    activation : {"gelu", "gelu_tanh"}
    """

    def __init__(
        self,
        n_layer: int,
        n_head: int,
        n_embd: int,
        seq_len: int,
        vocab_size: int,
        bias: bool = True,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        self.embedding = Embedding(vocab_size, seq_len, n_embd)
        blocks = (Block(n_embd, n_head, bias, activation) for _ in range(n_layer))
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(n_embd, bias=bias)

    def forward(self, x_BT: Tensor, y_BT: Tensor | None = None) -> Tensor:
        """Return the logits (B, T, V), or the mean loss when there are targets."""
        h_BTC = self.embedding(x_BT)
        for block in self.blocks:
            h_BTC = block(h_BTC)
        logits_BTV = functional.linear(self.final_norm(h_BTC), self.embedding.token.weight)
        if y_BT is None:
            return logits_BTV
        return functional.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten(), ignore_index=-100)


def make_adamw(
    model: nn.Module,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    fused: bool | None = None,
) -> torch.optim.AdamW:
    """Make AdamW in nanoGPT's two groups: matrices decay, vectors do not."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused)


def train_update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x_BT: Tensor,
    y_BT: Tensor,
    max_grad_norm: float,
    autocast: torch.dtype | None = None,
) -> float:
    """Make one update, forward to AdamW, and return the loss before it.

    With ``autocast``, the model runs under it in that type; weights and AdamW stay in fp32.
    """
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        loss = model(x_BT, y_BT)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    return float(loss.item())
