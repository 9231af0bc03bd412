"""What the sides of a benchmark are told to do, and how closely their losses must agree.

What does not live here: starting sides, time.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sizes import Size

__all__ = ["OURS", "PLAIN", "Contestant", "Job", "Precision", "parse_checkpointing", "peers_of"]

HERE = Path(__file__).resolve().parent
OURS = "tisslm"
PLAIN = "tisslm-plain"  # ours in fp32, without activation checkpointing

#: Scripts of the sides, by kind; ``-compile`` is the same script's model under torch.compile.
SCRIPTS = {OURS: "ours.py", "torch": "torch_side.py", "transformers": "transformers_side.py"}
COMPILED = "-compile"

#: Relative, by precision. fp32: sums in another order differ by about 1e-7, and a wrong gradient
#: or optimizer shows in the second loss by 1e-3. The others: a product's operands are rounded to
#: 2^-8 (bf16) or 2^-11 (fp16) of themselves, of which a mean over hundreds of tokens leaves about
#: 1e-5 (PyTorch in bf16 against fp32).
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 3e-4, "fp16": 3e-4}

#: Without these, glibc gives PyTorch's activations back to the system in every step and faults
#: them in again; with them it is 1.5 to 4 times faster on large models.
PEER_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(2**30),
}


class Precision(StrEnum):
    """Element types that a step can be run in."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass(frozen=True)
class Contestant:
    """One side, before it is started.

    Attributes
    ----------
    who : str
        Name in the results.
    kind : str
        ``tisslm``, ``torch`` (nanoGPT's GPT-2) or ``transformers``, the last two with
        ``-compile``, too.
    threads : int
    precision : str
    activation_checkpointing : str
        "none", "full" or "every=N"; ours only.
    environment : tuple of (str, str)
        Variables that its process has beside those of every side.
    """

    who: str
    kind: str
    threads: int
    precision: str = "fp32"
    activation_checkpointing: str = "none"
    environment: tuple[tuple[str, str], ...] = ()

    def tolerance(self, other: Contestant) -> float:
        """Return how far their losses may be apart; ours in one precision have the same bits."""
        if self.kind == other.kind == OURS and self.precision == other.precision:
            return 0.0
        return max(LOSS_TOLERANCE[self.precision], LOSS_TOLERANCE[other.precision])


@dataclass(frozen=True)
class Job:
    """A size, and who works on it.

    Attributes
    ----------
    size : Size
    bias : bool
        Whether linear layers and norms of a GPT-2 have one.
    contestants : tuple of Contestant
        The first is ours: it makes the weights, and its losses are those to agree with.
    peer_python : str
        The interpreter that the peers run in.
    steps : int
        Updates in a round; 0 to take as many as fill about three seconds.
    rounds : int
    """

    size: Size
    bias: bool
    contestants: tuple[Contestant, ...]
    peer_python: str = sys.executable
    steps: int = 0
    rounds: int = 5

    def request(self, one: Contestant) -> dict[str, Any]:
        """Return the plain values that a side's ``prepare`` takes."""
        return {
            "model": self.size.model(self.bias),
            "batch": self.size.batch,
            "threads": one.threads,
            "precision": one.precision,
            "activation_checkpointing": one.activation_checkpointing,
            "compile": one.kind.endswith(COMPILED),
            "adamw": {"lr": 1e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1},
            "max_grad_norm": 1.0,
        }

    def command(self, one: Contestant) -> tuple[list[str], dict[str, str]]:
        """Return the command line of a side, and what its environment gets."""
        env = {
            "PYTHONPATH": str(HERE),
            "TISSLM_NUM_THREADS": str(one.threads),
            "OMP_NUM_THREADS": str(one.threads),
            "MKL_NUM_THREADS": str(one.threads),
        }
        env |= one.environment
        script = str(HERE / "sides" / SCRIPTS[one.kind.removesuffix(COMPILED)])
        if one.kind == OURS:
            return [sys.executable, script], env
        return [self.peer_python, script], {**env, **PEER_MALLOC}


def peers_of(size: Size) -> tuple[str, ...]:
    """Name the kinds of peers that have a size's model: nanoGPT for GPT-2, else transformers."""
    kind = "torch" if size.family.name == "gpt2" else "transformers"
    return (kind, kind + COMPILED)


def parse_checkpointing(text: str) -> str:
    """Check ``--activation-checkpointing``.

    Raises
    ------
    ValueError
        With one sentence that says what was expected.
    """
    if text in ("none", "full") or re.fullmatch(r"every=[1-9][0-9]*", text):
        return text
    raise ValueError(
        f"--activation-checkpointing: expected none, full or every=N with N >= 1, got {text!r}"
    )
