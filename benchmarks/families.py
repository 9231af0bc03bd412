"""What sets a size's model apart: its keys, and formulas of its parameters.

They are written by hand, apart from the package's own counts, which tests hold them against.

What does not live here: numbers of layers, heads and channels (``sizes``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["GPT2", "Family", "Llama"]


@dataclass(frozen=True)
class GPT2:
    """Learned positions, layer norms, four C channels in the MLP; biases where they are wanted.

    Attributes
    ----------
    name : str
    gated, learned_positions : bool
        Whether the MLP has a gate, and whether each position has a row of C numbers.
    """

    name = "gpt2"
    gated, learned_positions = False, True

    def keys(self, bias: bool) -> dict[str, Any]:
        """Return the keys of the model beside its numbers of layers, heads and channels."""
        return {"bias": bias}

    def key_heads(self, n_head: int) -> int:
        """Return K."""
        return n_head

    def hidden(self, width: int) -> int:
        """Return F, the channels within the MLP."""
        return 4 * width

    def matrices(self, width: int, n_head: int) -> int:
        """Count the elements of a block's matrices."""
        return 12 * width**2

    def vectors(self, width: int, n_head: int, bias: bool) -> int:
        """Count the elements of a block's biases and norms."""
        return 13 * width if bias else 2 * width

    def norm(self, width: int, bias: bool) -> int:
        """Count the parameters of a norm."""
        return 2 * width if bias else width

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True)
class Llama:
    """Rotary positions, RMS norms, a gated MLP, the tied output matrix; the family has its biases.

    Attributes
    ----------
    n_kv_head, n_hidden : int
        K and F.
    rope_theta, norm_eps : float
    name : str
        "llama", or "qwen2", which has biases on queries, keys and values.
    gated, learned_positions : bool
        As of GPT-2.
    """

    n_kv_head: int
    n_hidden: int
    rope_theta: float = 1e4
    norm_eps: float = 1e-5
    name: str = "llama"
    gated, learned_positions = True, False

    def keys(self, bias: bool) -> dict[str, Any]:
        """Return the keys of the model beside its numbers of layers, heads and channels."""
        return {
            "family": self.name,
            "n_kv_head": self.n_kv_head,
            "n_hidden": self.n_hidden,
            "rope_theta": self.rope_theta,
            "norm_eps": self.norm_eps,
            "tie_embeddings": True,
        }

    def key_heads(self, n_head: int) -> int:
        """Return K."""
        return self.n_kv_head

    def hidden(self, width: int) -> int:
        """Return F, the channels within the MLP."""
        return self.n_hidden

    def matrices(self, width: int, n_head: int) -> int:
        """Count the elements of a block's matrices."""
        return width * (self._qkv(width, n_head) + width + 3 * self.n_hidden)

    def vectors(self, width: int, n_head: int, bias: bool) -> int:
        """Count the elements of a block's biases and norms."""
        biases = self._qkv(width, n_head) if self.name == "qwen2" else 0
        return 2 * width + biases

    def norm(self, width: int, bias: bool) -> int:
        """Count the parameters of a norm."""
        return width

    def _qkv(self, width: int, n_head: int) -> int:
        return width + 2 * self.n_kv_head * width // n_head

    def __str__(self) -> str:
        return f" {self.name} K{self.n_kv_head} F{self.n_hidden}"


Family = GPT2 | Llama
