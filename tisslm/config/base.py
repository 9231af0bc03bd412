"""The base class of configuration sections: fields are checked whenever they are set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tisslm.config.aliases import ELSEWHERE, read_flag, rename, unknown_key
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

        def __init__(self, /, **values: Any) -> None:
            values = self.own_names(values)
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise config_error(self.section, type(self), error) from None
            self.follow()

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_"):
                values = self.own_names({name: value})
                if not values:  # a flag that is not set says nothing
                    return
                ((name, value),) = values.items()
                self.check_assignment(name, value)
            try:
                super().__setattr__(name, value)
            except ValidationError as error:
                raise config_error(self.section, type(self), error) from None
            self.follow()

    def check_assignment(self, name: str, value: object) -> None:
        """Raise ``ConfigError`` if an assignment contradicts what was given for another field."""

    def follow(self) -> None:
        """Set the fields that were not given and depend on others; called after every change."""

    @classmethod
    def is_open(cls, values: Mapping[str, Any]) -> bool:
        """Return True if the section takes keys beside its fields, as options of a part."""
        return False

    @classmethod
    def own_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with other trainers' spellings replaced by the fields' names.

        Raises
        ------
        ConfigError
            If a key is unknown, or two spellings of one key have different values.
        """
        found: dict[str, Any] = {}
        spelled: dict[str, str] = {}
        for given, value in values.items():
            read = read_flag((cls.section, given), value)
            if read is None:
                continue
            path, value = read
            key = path[1]
            moved = ELSEWHERE.get(cls.section, {}).get(key)
            if moved is not None and key not in cls.model_fields:
                raise ConfigError(f"{cls.section}.{key}: unknown key; it belongs to {moved}")
            if key not in cls.model_fields:
                key = rename(path)[1]
            if key not in cls.model_fields and not cls.is_open(values):
                raise unknown_key(cls.section, key, cls.model_fields, {})
            if key in found and found[key] != value:
                raise ConfigError(
                    f"{cls.section}.{key}: given as {spelled[key]} = {show(found[key])} and as "
                    f"{given} = {show(value)}; keep one"
                )
            found[key], spelled[key] = value, given
        return found
