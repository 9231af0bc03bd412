"""Names become parts: the hooks, the providers that answer them, and the look-up."""

from tisslm.registry.registry import Part, Registry, load_registry

__all__ = ["Part", "Registry", "load_registry"]
