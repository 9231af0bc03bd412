"""The arrays of a forward and backward pass, planned from shapes and made before it runs.

What does not live here: what the arrays mean; the model and its layers know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from tisslm.contracts import Buffer
from tisslm.memory import Workspace

__all__ = ["PassBuffers", "plan_sizes"]

Array = NDArray[Any]
Plan = Mapping[str, Buffer]


def plan_sizes(own: Plan, layers: Sequence[Plan]) -> dict[str, int]:
    """Return the bytes of every buffer by name; scratch of the layers is shared between them.

    Parameters
    ----------
    own : mapping of str to Buffer
        What the model itself needs.
    layers : sequence of mappings
        The plan of each layer; saved buffers become ``layers.<i>.<name>``.
    """
    sizes = {name: buffer.nbytes for name, buffer in own.items()}
    for i, plan in enumerate(layers):
        for name, buffer in plan.items():
            if buffer.kind == "saved":
                sizes[f"layers.{i}.{name}"] = buffer.nbytes
            else:
                key = f"scratch.{name}"
                sizes[key] = max(sizes.get(key, 0), buffer.nbytes)
    return sizes


class PassBuffers:
    """Views of a workspace for one shape (B, T).

    Attributes
    ----------
    own : dict of str to ndarray
    saved, scratch : list of dict of str to ndarray
        One for each layer.
    """

    def __init__(self, workspace: Workspace, own: Plan, layers: Sequence[Plan]) -> None:
        self.own = {n: workspace.view(n, b.shape, b.dtype) for n, b in own.items()}
        self.saved: list[dict[str, Array]] = []
        self.scratch: list[dict[str, Array]] = []
        for i, plan in enumerate(layers):
            saved: dict[str, Array] = {}
            scratch: dict[str, Array] = {}
            for name, b in plan.items():
                if b.kind == "saved":
                    saved[name] = workspace.view(f"layers.{i}.{name}", b.shape, b.dtype)
                else:
                    scratch[name] = workspace.view(f"scratch.{name}", b.shape, b.dtype)
            self.saved.append(saved)
            self.scratch.append(scratch)
