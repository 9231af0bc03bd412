"""The sizes that benchmarks run, and how parameters and operations are counted.

What does not live here: anything that runs a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from families import GPT2, Family, Llama

__all__ = ["NAMED", "Size", "parse_size"]


@dataclass(frozen=True)
class Size:
    """A model and its batch.

    Attributes
    ----------
    n_layer, n_head, n_embd, vocab_size : int
        L, H, C and V.
    batch, time : int
        B and T; the model has exactly T positions.
    family : Family
        What the model is beside these numbers.
    """

    n_layer: int
    n_head: int
    n_embd: int
    vocab_size: int
    batch: int
    time: int
    family: Family = field(default_factory=GPT2)

    @property
    def tokens(self) -> int:
        """Tokens of one update, B * T."""
        return self.batch * self.time

    def model(self, bias: bool) -> dict[str, Any]:
        """Return the model's keys, as a configuration has them; ``bias`` is GPT-2's choice."""
        return {
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "n_embd": self.n_embd,
            "vocab_size": self.vocab_size,
            "seq_len": self.time,
            **self.family.keys(bias),
        }

    def parameters(self, bias: bool) -> int:
        """P: all trainable scalars, learned positions included, the tied matrix once."""
        width, family = self.n_embd, self.family
        block = family.matrices(width, self.n_head) + family.vectors(width, self.n_head, bias)
        rows = self.vocab_size + (self.time if family.learned_positions else 0)
        return rows * width + self.n_layer * block + family.norm(width, bias)

    def flops_per_token(self, bias: bool) -> int:
        """Operations of forward and backward per token, 6 P + 6 L C T.

        Two for each multiply-add; 2 P forward and 4 P backward, and as much for the causal
        half of attention: its two products take 4 C T / 2 per token and layer forward, and
        twice that backward. Norms, rotations, activations, softmax and the optimizer are not
        counted, and neither is anything that a side computes twice.

        References
        ----------
        Chowdhery et al., PaLM, appendix B (arXiv 2204.02311), with the causal half left out.
        """
        attention = 6 * self.n_layer * self.n_embd * self.time
        return 6 * self.parameters(bias) + attention

    @property
    def product_flops(self) -> int:
        """Operations of an update in matrix products and attention alone, counted likewise."""
        block = self.family.matrices(self.n_embd, self.n_head)
        matrices = self.n_layer * block + self.vocab_size * self.n_embd
        return self.tokens * (6 * matrices + 6 * self.n_layer * self.n_embd * self.time)

    def __str__(self) -> str:
        model = f"L{self.n_layer} H{self.n_head} C{self.n_embd} V{self.vocab_size}"
        return f"{model}{self.family} B{self.batch} T{self.time}"


NAMED = {
    "char-tiny": Size(4, 4, 128, 65, 12, 64),
    "char": Size(6, 6, 384, 65, 64, 256),
    "gpt2-4x64": Size(12, 12, 768, 50304, 4, 64),
    "gpt2-4x256": Size(12, 12, 768, 50304, 4, 256),
    "gpt2-1x1024": Size(12, 12, 768, 50304, 1, 1024),
    "gpt2-medium-1x1024": Size(24, 16, 1024, 50304, 1, 1024),
    "long-16x512": Size(4, 4, 256, 65, 16, 512),
    "long-1x8192": Size(4, 4, 256, 65, 1, 8192),
    "llama-tiny": Size(4, 4, 128, 65, 12, 64, Llama(2, 384)),
    "smollm2-135m-4x256": Size(30, 9, 576, 49152, 4, 256, Llama(3, 1536, 1e5)),
    "qwen2.5-0.5b-1x256": Size(24, 14, 896, 151936, 1, 256, Llama(2, 4864, 1e6, 1e-6, "qwen2")),
}


def parse_size(text: str) -> Size:
    """Turn a name of ``NAMED`` or six numbers ``L,H,C,V,B,T`` into a Size.

    Raises
    ------
    ValueError
        With one sentence that says what was expected.
    """
    if text in NAMED:
        return NAMED[text]
    fields = text.split(",")
    if len(fields) != 6 or not all(f.strip().isdecimal() and int(f) > 0 for f in fields):
        raise ValueError(
            f"--size: expected one of {', '.join(NAMED)}, or six positive integers L,H,C,V,B,T, "
            f"got {text!r}"
        )
    size = Size(*(int(f) for f in fields))
    if size.n_embd % size.n_head:
        raise ValueError(
            f"--size: C must be a multiple of H, got C={size.n_embd} and H={size.n_head}"
        )
    return size
