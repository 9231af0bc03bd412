"""What the parts of a run are called in messages: as the user has named them."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["give_name", "name_of"]

Part = TypeVar("Part")

_ATTRIBUTE = "_tisslm_name"


def give_name(part: Part, name: str) -> Part:
    """Return a part that remembers the name by which it was made."""
    object.__setattr__(part, _ATTRIBUTE, name)
    return part


def name_of(part: Any) -> str:
    """Return the name by which a part was made; of an object from elsewhere, that of its class."""
    return str(getattr(part, _ATTRIBUTE, type(part).__name__))
