"""The registry of parts: hooks, plugin discovery, and looking parts up by name.

Names are imported on first use: a plugin's hook module, which every run imports, needs only
``hookspecs``, and no NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tisslm.registry.registry import Part, Registry, load_registry

__all__ = ["Part", "Registry", "load_registry"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from tisslm.registry import registry

        return getattr(registry, name)
    raise AttributeError(f"module 'tisslm.registry' has no attribute {name!r}")
