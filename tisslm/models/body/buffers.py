"""The buffers of a forward and backward pass, planned from shapes and allocated before it runs.

Buffers that are not in use at the same time share bytes, in one block: the chunk of logits and the
model's other scratch; the scratch of each layer; and, beside that, what a block has saved that is
recomputed, or that no backward comes to. Every other buffer has bytes of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Buffer
from tisslm.memory import Workspace, aligned

__all__ = ["BlockPlan", "PassBlock", "PassBuffers", "PassMemory", "PassPlan"]

Array = NDArray[Any]
Plan = Mapping[str, Buffer]

#: The buffer of the workspace whose bytes are shared.
SHARED = "scratch.shared"


@dataclass(frozen=True)
class BlockPlan:
    """The buffers of one block of consecutive layers.

    Attributes
    ----------
    layers : sequence of mappings
        The plan of each layer.
    stream : Buffer, optional
        The residual stream at the block's input, if its forward is run again in backward.
    untrained : bool
        Whether no backward comes to it, so that nobody reads what it has saved.
    """

    layers: Sequence[Plan]
    stream: Buffer | None = None
    untrained: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether what it saves has bytes of its own."""
        return self.stream is None and not self.untrained


@dataclass(frozen=True)
class PassPlan:
    """All buffers of a pass of one shape.

    Attributes
    ----------
    own : mapping of str to Buffer
        Buffers of the model itself. Its scratch is overwritten while a layer runs.
    blocks : sequence of BlockPlan
    """

    own: Plan
    blocks: Sequence[BlockPlan]

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every buffer by name; the workspace takes their sum.

        Saved buffers of the layers in kept blocks are ``layers.<i>.<name>``, a recomputed block's
        stream is ``layers.<i>.stream`` with its first layer's number, the shared bytes are
        ``scratch.shared``, and the model's own buffers have their names. A block that no backward
        comes to has none.
        """
        sizes = {name: b.nbytes for name, b in self.own.items() if b.kind == "saved"}
        first = 0
        for block in self.blocks:
            if block.stream is not None:
                sizes[f"layers.{first}.stream"] = block.stream.nbytes
            if block.is_kept:
                for i, plan in enumerate(block.layers, first):
                    saved = _of_kind(plan, "saved")
                    sizes.update({f"layers.{i}.{name}": b.nbytes for name, b in saved.items()})
            first += len(block.layers)
        sizes[SHARED] = self.shared_size()
        return sizes

    def shared_size(self) -> int:
        """Return the bytes of the shared block: the most that is in use at one time."""
        layers = [_extent(_of_kind(plan, "scratch")) for b in self.blocks for plan in b.layers]
        head = _extent(_of_kind(self.own, "scratch"))
        return max(head, self.recomputed_size() + max(layers, default=0))

    def recomputed_size(self) -> int:
        """Return the bytes at the front of the shared block, for blocks that are not kept."""
        others = [block for block in self.blocks if not block.is_kept]
        saved = [[_extent(_of_kind(plan, "saved")) for plan in block.layers] for block in others]
        return max(map(sum, saved), default=0)


@dataclass(frozen=True)
class PassBlock:
    """A block of a pass: the numbers of its layers, and its stream if it is recomputed."""

    layers: range
    stream: Array | None


class PassBuffers:
    """The buffers of a pass of one shape (B, T), as views of a workspace.

    Attributes
    ----------
    own : dict of str to ndarray
    saved, scratch : list of dict of str to ndarray
        The buffers of each layer. Those of blocks that are not kept share bytes.
    blocks : list of PassBlock
    """

    def __init__(self, workspace: Workspace, plan: PassPlan) -> None:
        self._workspace = workspace
        self._shared = workspace.view(SHARED, (plan.shared_size(),), np.uint8)
        self.own = self._named("", _of_kind(plan.own, "saved"))
        self.own |= self._cut(_of_kind(plan.own, "scratch"), 0)
        self.saved: list[dict[str, Array]] = []
        self.scratch: list[dict[str, Array]] = []
        self.blocks = [self._add(block, plan.recomputed_size()) for block in plan.blocks]

    def _add(self, block: BlockPlan, scratch: int) -> PassBlock:
        """View the buffers of a block; its scratch begins at this byte of the shared block."""
        first, offset = len(self.saved), 0
        for i, plan in enumerate(block.layers, first):
            saved = _of_kind(plan, "saved")
            if block.is_kept:
                self.saved.append(self._named(f"layers.{i}.", saved))
            else:
                self.saved.append(self._cut(saved, offset))
                offset += _extent(saved)
            self.scratch.append(self._cut(_of_kind(plan, "scratch"), scratch))
        stream = None
        if block.stream is not None:
            stream = self._named(f"layers.{first}.", {"stream": block.stream})["stream"]
        return PassBlock(range(first, len(self.saved)), stream)

    def _named(self, prefix: str, plan: Plan) -> dict[str, Array]:
        view = self._workspace.view
        return {name: view(prefix + name, b.shape, b.dtype) for name, b in plan.items()}

    def _cut(self, plan: Plan, offset: int) -> dict[str, Array]:
        """View buffers one after the other in the shared block, each aligned to a cache line."""
        arrays = {}
        for name, b in plan.items():
            arrays[name] = self._shared[offset : offset + b.nbytes].view(b.dtype).reshape(b.shape)
            offset += aligned(b.nbytes)
        return arrays


class PassMemory:
    """The buffers for each shape of a model's passes, on one workspace.

    Attributes
    ----------
    workspace : Workspace or None
        The memory, as large as the largest pass so far needed.
    """

    def __init__(self) -> None:
        self.workspace: Workspace | None = None
        self._passes: dict[tuple[int, int], PassBuffers] = {}

    def __contains__(self, shape: tuple[int, int]) -> bool:
        return shape in self._passes

    def __getitem__(self, shape: tuple[int, int]) -> PassBuffers:
        return self._passes[shape]

    def make(self, batch: int, time: int, plan: PassPlan) -> None:
        """Make the buffers for a shape; a workspace that is too small is replaced."""
        sizes = plan.sizes()
        if self.workspace is None or not self.workspace.fits(sizes):
            old = {} if self.workspace is None else self.workspace.sizes
            self._passes.clear()
            self.workspace = None  # freed before the larger one is made
            self.workspace = Workspace({n: max(s, old.get(n, 0)) for n, s in sizes.items()})
        self._passes[batch, time] = PassBuffers(self.workspace, plan)


def _of_kind(plan: Plan, kind: str) -> dict[str, Buffer]:
    return {name: buffer for name, buffer in plan.items() if buffer.kind == kind}


def _extent(plan: Plan) -> int:
    """Return the bytes of these buffers, one after the other."""
    buffers: Iterable[Buffer] = plan.values()
    return sum(aligned(buffer.nbytes) for buffer in buffers)
