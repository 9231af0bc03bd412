"""Activation checkpointing: which blocks are recomputed in backward, and running the passes.

A kept block leaves what its backward needs in buffers of its own. A recomputed one leaves only the
residual stream at its input; its backward first runs its forward again from there, into buffers
that all recomputed blocks share, without the last product, which no backward reads. Dropout is
keyed by the pass and not drawn in turn, so the second forward has the bits of the first.

The buffers are laid out in ``buffers``; ``"auto"`` is resolved in ``training.memory_plan``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Layer, PassContext
from tisslm.contracts.pass_observer import PassObserver, enter, leave
from tisslm.errors import ConfigError
from tisslm.models.body.buffers import PassBuffers

__all__ = ["NamedLayer", "Recomputation", "run_backward", "run_forward"]

Array = NDArray[Any]
NamedLayer = tuple[str, Layer]

_EXPECTED = '"none", "full" or "every=N" with N >= 1'


@dataclass(frozen=True)
class Recomputation:
    """Which blocks are recomputed in backward: every N-th, or none.

    Attributes
    ----------
    every : int
        0 recomputes no block, 1 all blocks, and N those numbered N-1, 2N-1, and so on: a larger N
        keeps more and recomputes less. An N above the number of blocks recomputes none.

    References
    ----------
    Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
    """

    every: int = 0

    @classmethod
    def parse(cls, text: object) -> Recomputation:
        """Read ``"none"``, ``"full"`` or ``"every=N"``.

        Raises
        ------
        ConfigError
            For any other text; ``"auto"`` must have been resolved before.
        """
        if text == "auto":
            raise ConfigError(
                'activation_checkpointing: "auto" is resolved by the Trainer, which knows the '
                f"memory limit; a model takes {_EXPECTED}"
            )
        named = {"none": 0, "full": 1}
        if isinstance(text, str) and text in named:
            return cls(named[text])
        found = re.fullmatch(r"every=0*([1-9][0-9]{0,17})", text) if isinstance(text, str) else None
        if found is None:
            raise ConfigError(f"activation_checkpointing: expected {_EXPECTED}, got {text!r:.200}")
        return cls(int(found[1]))

    def takes(self, block: int) -> bool:
        """Return True if the block with this number, from 0, is recomputed."""
        return self.every > 0 and (block + 1) % self.every == 0


def run_forward(
    layers: Sequence[NamedLayer],
    h_NC: Array,
    buffers: PassBuffers,
    ctx: PassContext,
    *,
    gradient: bool = True,
    observers: tuple[PassObserver, ...] = (),
    caches: Sequence[Mapping[str, Array]] = (),
) -> None:
    """Run the blocks on the residual stream, in place.

    Parameters
    ----------
    layers : sequence of (str, Layer)
        The layers with their names.
    h_NC : ndarray of shape (N, C), IN/OUT
    buffers : PassBuffers
    ctx : PassContext
    gradient : bool
        Whether a backward may follow; if not, recomputed blocks save nothing.
    observers : tuple of PassObserver
        Notified of each layer when its saved buffers are filled; those of a recomputed block are
        valid until the next block only.
    caches : sequence of mappings of str to ndarray
        A cache for each layer, filled for decoding; none if left out.
    """
    for block in buffers.blocks:
        if gradient and block.stream is not None:
            np.copyto(block.stream[: len(h_NC)], h_NC)
        for i in block.layers:
            name, layer = layers[i]
            enter(observers, name, "forward")
            saved, scratch = buffers.saved[i], buffers.scratch[i]
            layer.forward(h_NC, saved, scratch, ctx)
            if caches or observers:
                shown = layer.shown(saved, scratch, ctx)
                if caches:
                    layer.fill_cache(caches[i], shown, ctx.time)
                leave(observers, name, "forward", shown, stream=h_NC)


def run_backward(
    layers: Sequence[NamedLayer],
    dh_NC: Array,
    buffers: PassBuffers,
    ctx: PassContext,
    *,
    first: int = 0,
    observers: tuple[PassObserver, ...] = (),
) -> None:
    """Turn the gradient by the last block's output into that by the first one's input, in place.

    Layers before ``first`` are left out: nothing in them or before them is trained. The saved
    streams of recomputed blocks are overwritten: their second forward runs on them.
    """
    for block in reversed(buffers.blocks):
        wanted = [i for i in block.layers if i >= first]
        if wanted and block.stream is not None:
            stream = block.stream[: len(dh_NC)]
            _recompute(layers, stream, block.layers, buffers, ctx, observers)
        for i in reversed(wanted):
            name, layer = layers[i]
            enter(observers, name, "backward")
            layer.backward(dh_NC, buffers.saved[i], buffers.scratch[i], ctx)
            leave(observers, name, "backward", buffers.saved[i], d_stream=dh_NC)


def _recompute(
    layers: Sequence[NamedLayer],
    h_NC: Array,
    numbers: range,
    buffers: PassBuffers,
    ctx: PassContext,
    observers: tuple[PassObserver, ...],
) -> None:
    """Run the forward of a block again from its saved stream; only what it saves is needed."""
    for i in numbers:
        (name, layer), saved, scratch = layers[i], buffers.saved[i], buffers.scratch[i]
        enter(observers, name, "recompute")
        if i == numbers[-1]:
            layer.recompute(h_NC, saved, scratch, ctx)
        else:
            layer.forward(h_NC, saved, scratch, ctx)
        leave(observers, name, "recompute", saved, stream=h_NC)
