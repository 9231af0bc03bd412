"""Names become parts: the hooks, the plugins that answer them, and the look-up.

Names are loaded on first use: a plugin's hook module, which every run imports, needs ``hookspecs``
alone, and no NumPy.
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
