"""A ``config.json`` as it is read: each key checked, and no key left that may mean something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, final

from tisslm.errors import CheckpointError
from tisslm.models.huggingface.configuration.harmless import HARMLESS
from tisslm.system.safe_files import show

__all__ = ["Source"]


@final
class Source:
    """The keys of a configuration, of which those that were asked for are noted.

    Parameters
    ----------
    values : mapping
    where : str
        The file, for messages.
    any_dropout : bool
        Whether dropout is of no interest, since another takes its place.
    """

    def __init__(self, values: Mapping[str, Any], where: str, any_dropout: bool = False) -> None:
        self._given = values
        self.where = where
        self._asked = {"vocab_size"}
        self._any_dropout = any_dropout

    def __contains__(self, key: str) -> bool:
        return key in self._given

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value as it is; null where it is null."""
        self._asked.add(key)
        return self._given.get(key, default)

    def refuse(
        self, key: str, expected: str, advice: str = "correct it, or save it again"
    ) -> NoReturn:
        """Raise the error for a key: what was expected, what came, what to do."""
        got = show(self._given[key]) if key in self._given else "none"
        raise CheckpointError(f"{self.where}: {key}: expected {expected}, got {got}; {advice}")

    def count(self, key: str, default: int | None = None) -> int:
        """Return an integer of at least 1; the default if it is not there or null."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or value < 1:
            self.refuse(key, "an integer >= 1")
        return int(value)

    def number(self, key: str, default: float) -> float:
        """Return a number; the default if it is not there or null."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, "a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false; the default if it is not there or null."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def table(self, key: str) -> dict[str, Any]:
        """Return a table; an empty one if it is not there or null."""
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.refuse(key, "a table or null")
        return value

    def must_be(self, key: str, wanted: object) -> None:
        """Refuse a key whose value changes what the model computes; one that is missing will do."""
        if self.get(key, wanted) not in (wanted, None):
            self.refuse(key, f"{show(wanted)}", "such a model is not possible here, use another")

    def activation(self, key: str, default: str, known: Mapping[str, str]) -> str:
        """Return our name of an activation."""
        name = self.get(key, default)
        if not isinstance(name, str) or name not in known:
            self.refuse(key, f"one of {', '.join(known)}", "use a model with one of these")
        return known[name]

    def dropout(self, keys: Mapping[str, float], *, everywhere: bool = True) -> float:
        """Return the one dropout of all places; 0 where it is of no interest.

        Parameters
        ----------
        keys : mapping of str to float
            Each with the default of its class.
        everywhere : bool
            Whether these are all the places where ours has dropout.
        """
        found = {key: self.number(key, default) for key, default in keys.items()}
        if self._any_dropout:
            return 0.0
        value = next(iter(found.values()))
        if any(other != value for other in found.values()) or (value and not everywhere):
            got = ", ".join(f"{key} = {other:g}" for key, other in found.items())
            raise CheckpointError(
                f"{self.where}: expected one dropout of embedding, attention and sublayers, got "
                f"{got}{'' if everywhere else ' alone'}; say which is wanted by dropout=, such as "
                f"dropout=0.0"
            )
        return value

    def refuse_others(self) -> None:
        """Refuse keys that nobody asked for, unless they are harmless or switched off."""
        for key, value in self._given.items():
            if key not in self._asked and key not in HARMLESS and not _is_off(value):
                raise CheckpointError(
                    f"{self.where}: {show(key)}: expected a known key, since others may change "
                    f"what the model computes, got this one, {show(value)}; if it changes nothing, "
                    "take it out"
                )


def _is_off(value: object) -> bool:
    """Return whether a value says that something is not there, or that a factor changes nothing."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value in (0, 1)
    return value is None or value in ("", [], {})
