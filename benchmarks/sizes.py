"""The sizes that benchmarks run, and how parameters and operations are counted.

What does not live here: anything that runs a model.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

__all__ = ["NAMED", "Size", "parse_size"]


@dataclass(frozen=True)
class Size:
    """A GPT-2 model and its batch.

    Attributes
    ----------
    n_layer, n_head, n_embd, vocab_size : int
        L, H, C and V.
    batch, time : int
        B and T; the model has exactly T positions.
    """

    n_layer: int
    n_head: int
    n_embd: int
    vocab_size: int
    batch: int
    time: int

    @property
    def tokens(self) -> int:
        """Tokens of one update, B * T."""
        return self.batch * self.time

    def parameters(self, bias: bool) -> int:
        """P: all trainable scalars, positions included, the tied matrix once."""
        width = self.n_embd
        biases_and_norms = 13 * width if bias else 2 * width
        block = 12 * width**2 + biases_and_norms
        final_norm = 2 * width if bias else width
        return (self.vocab_size + self.time) * width + self.n_layer * block + final_norm

    def flops_per_token(self, bias: bool) -> int:
        """Operations of forward and backward per token, 6 P + 6 L C T.

        Two for each multiply-add; 2 P forward and 4 P backward, and as much for the causal
        half of attention: its two products take 4 C T / 2 per token and layer forward, and
        twice that backward. Norms, activations, softmax and the optimizer are not counted,
        and neither is anything that a side computes twice.

        References
        ----------
        Chowdhery et al., PaLM, appendix B (arXiv 2204.02311), with the causal half left out.
        """
        attention = 6 * self.n_layer * self.n_embd * self.time
        return 6 * self.parameters(bias) + attention

    @property
    def product_flops(self) -> int:
        """Operations of an update in matrix products and attention alone, counted likewise."""
        matrices = 12 * self.n_layer * self.n_embd**2 + self.vocab_size * self.n_embd
        return self.tokens * (6 * matrices + 6 * self.n_layer * self.n_embd * self.time)

    def __str__(self) -> str:
        return "L{} H{} C{} V{} B{} T{}".format(*astuple(self))


NAMED = {
    "char-tiny": Size(4, 4, 128, 65, 12, 64),
    "char": Size(6, 6, 384, 65, 64, 256),
    "gpt2-4x64": Size(12, 12, 768, 50304, 4, 64),
    "gpt2-4x256": Size(12, 12, 768, 50304, 4, 256),
    "gpt2-1x1024": Size(12, 12, 768, 50304, 1, 1024),
    "gpt2-medium-1x1024": Size(24, 16, 1024, 50304, 1, 1024),
    "long-16x512": Size(4, 4, 256, 65, 16, 512),
    "long-1x8192": Size(4, 4, 256, 65, 1, 8192),
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
