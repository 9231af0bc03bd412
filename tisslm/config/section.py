"""The base of the sections of a configuration: fields checked when set, errors of one sentence.

What does not live here: the keys of any section (``training``, ``sections``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tisslm.config.aliases import ELSEWHERE, rename, unknown_key
from tisslm.config.fields import config_error, show
from tisslm.errors import ConfigError

__all__ = ["Section"]


class Section(BaseModel):
    """A section with typed fields, built by keywords and changed by assignment.

    Known spellings of other trainers are accepted with a ``ConfigNote``. Every mistake is a
    ``ConfigError`` of one sentence that begins with section and key.
    """

    model_config = ConfigDict(extra="forbid", strict=True, validate_assignment=True)

    #: Name of the section.
    section: ClassVar[str]

    if not TYPE_CHECKING:  # so that type checkers see the fields as keywords

        def __init__(self, **values: Any) -> None:
            values = self.own_names(values)
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise config_error(self.section, type(self), error) from None

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_"):
                ((name, value),) = self.own_names({name: value}).items()
            try:
                super().__setattr__(name, value)
            except ValidationError as error:
                raise config_error(self.section, type(self), error) from None

    @classmethod
    def is_open(cls, values: Mapping[str, Any]) -> bool:
        """Whether the section takes keys beside its fields, as options of a part."""
        return False

    @classmethod
    def own_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values by the names of the fields.

        Raises
        ------
        ConfigError
            If a key is unknown, or two spellings of one key have different values.
        """
        found: dict[str, Any] = {}
        spelled: dict[str, str] = {}
        for given, value in values.items():
            path = (cls.section, given)
            moved = ELSEWHERE.get(cls.section, {}).get(given)
            if moved is not None and given not in cls.model_fields:
                raise ConfigError(f"{cls.section}.{given}: unknown key; it belongs to {moved}")
            key = given if given in cls.model_fields else rename(path)[1]
            if key not in cls.model_fields and not cls.is_open(values):
                raise unknown_key(cls.section, key, cls.model_fields, {})
            if key in found and found[key] != value:
                raise ConfigError(
                    f"{cls.section}.{key}: given as {spelled[key]} = {show(found[key])} and as "
                    f"{given} = {show(value)}; keep one"
                )
            found[key], spelled[key] = value, given
        return found
