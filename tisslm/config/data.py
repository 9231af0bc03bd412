"""``[data]``: what a run reads, as one source or several that are mixed.

It is read in ``tisslm.workflows.build.data``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import BeforeValidator, ConfigDict, Field

from tisslm.config.aliases import note
from tisslm.config.base import Section
from tisslm.config.fields import (
    Count,
    Expects,
    Flag,
    Fraction,
    Path,
    PositiveNumber,
    Text,
    show,
)
from tisslm.errors import ConfigError

__all__ = ["DataSection", "SourceTable"]

_FractionOrNone = Annotated[Fraction | None, Expects("a number in [0, 1)")]
_TextOrNone = Annotated[Text | None, Expects("a string")]
_FlagOrNone = Annotated[Flag | None, Expects("true or false")]


@final
class SourceTable(Section):
    """One of several sources of data: a table ``[[data.sources]]``.

    Parameters
    ----------
    path : str
        The training data, as in ``[data]``.
    weight : float, default 1.0
        The source's share of the rows is its weight divided by the sum of all weights.
    valid_path : str, default ""
        What to validate on, as in ``[data]``.
    valid_fraction, format, text_field, document_separator, mask_prompt
        As in ``[data]``, whose values count where these are left out.
    """

    section: ClassVar[str] = "source"

    path: Path = ""
    weight: PositiveNumber = 1.0
    valid_path: Path = ""
    valid_fraction: _FractionOrNone = None
    format: _TextOrNone = None
    text_field: _TextOrNone = None
    document_separator: _TextOrNone = None
    mask_prompt: _FlagOrNone = None


#: Keys that are read for every dataset; the others are options of the one that takes them.
OWN = frozenset({"name", "path", "valid_path", "valid_fraction"})


def _sources(value: object) -> object:
    """Turn the tables of a list into ``SourceTable``; errors name the table by its number."""
    if not isinstance(value, list | tuple):
        return value
    found = []
    for number, table in enumerate(value):
        where = f"data.sources[{number}]"
        if isinstance(table, SourceTable):
            found.append(table)
            continue
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: expected a table with a path, got {show(table)}")
        try:
            source = SourceTable(**{str(key): item for key, item in table.items()})
        except ConfigError as error:
            message = str(error).replace("[source]", "[[data.sources]]")
            raise ConfigError(message.replace("source.", f"{where}.")) from None
        if not source.path:
            raise ConfigError(f"{where}.path: not set; name a file or folder")
        found.append(source)
    return found


@final
class DataSection(Section):
    """The section ``[data]``: what a run reads.

    Parameters
    ----------
    name : str, default "text"
        The dataset. Another one than "text" takes further keys, as its options.
    path : str
        The training data, a file or folder of any known format, relative to the working
        directory; "python-docs" is the language reference that comes with Python.
    valid_path : str, default ""
        What to validate on; "" holds out a part of the training data.
    valid_fraction : float, default 0.1
        The share that is held out if there is no ``valid_path``; 0 means no validation. Only the
        datasets "text", "examples" and "preferences" hold data out.
    format : str, default "auto"
        The format; "auto" finds it by the path.
    text_field : str, default "text"
        The field of a JSON record that is its text.
    document_separator : str, default ""
        What stands between the documents of a text file; "" makes it one document.
    packing : {"stream", "whole"}, default "stream"
        Whether rows are cut from all documents one after another, or documents stay whole.
    document_mask : bool, default True
        Whether the tokens of one document see nothing of the others in their row.
    mask_prompt : bool, default True
        Whether prompts are read without being learned.
    chat : {"template", "plain"}, default "template"
        Whether conversations (``messages``) are written by the tokenizer's chat template, or as
        role, content and a blank line.
    bad_records : {"error", "skip"}, default "error"
        Whether a record that cannot be read ends the run, or is left out and counted.
    vocab_size : int, optional
        The size of the vocabulary of ready tokens, whose ids are below it.
    verify : bool, default False
        Whether every file of token shards is read and its SHA-256 compared before the run begins.
    sources : list of SourceTable, default []
        Several sources to mix, in place of ``path``.
    """

    model_config = ConfigDict(extra="allow")
    section: ClassVar[str] = "data"

    name: Annotated[str, Field(min_length=1), Expects("a dataset's name")] = "text"
    path: Path = ""
    valid_path: Path = ""
    valid_fraction: Fraction = 0.1
    format: Annotated[str, Field(min_length=1), Expects("a format's name")] = "auto"
    text_field: Annotated[str, Field(min_length=1), Expects("a field's name")] = "text"
    document_separator: Text = ""
    packing: Annotated[Literal["stream", "whole"], Expects('"stream" or "whole"')] = "stream"
    document_mask: Flag = True
    mask_prompt: Flag = True
    chat: Annotated[Literal["template", "plain"], Expects('"template" or "plain"')] = "template"
    bad_records: Annotated[Literal["error", "skip"], Expects('"error" or "skip"')] = "error"
    vocab_size: Annotated[Count | None, Expects("an integer >= 1")] = None
    verify: Flag = False
    sources: Annotated[
        list[SourceTable], BeforeValidator(_sources), Expects("a list of tables, each with a path")
    ] = Field(default_factory=list)

    @classmethod
    def is_open(cls, values: Mapping[str, Any]) -> bool:
        """Return True if the dataset is another than "text", which has keys of its own."""
        return bool(values.get("name", "text") != "text")

    @property
    def options(self) -> dict[str, Any]:
        """The keys that were set for another dataset than "text", with those of this class."""
        fields = self.model_dump(include=self.model_fields_set - OWN, exclude_none=True)
        return fields | (self.model_extra or {})

    def given(self) -> dict[str, Any]:
        """Return the keys with a value; for another dataset than "text", only the keys set."""
        silent = set() if self.name == "text" else type(self).model_fields.keys() - OWN
        return self.model_dump(exclude=silent - self.model_fields_set, exclude_none=True)

    def check(self) -> None:
        """Raise ``ConfigError`` if a text is needed and none is named, or one is named in two ways.

        A ``valid_fraction`` for another dataset than "text" gives a ``ConfigNote``.
        """
        if self.name == "tokens" and "tokens" not in (self.model_extra or {}):
            raise ConfigError(
                'data.name: "tokens" is made of an array, in Python; leave data.name out and name '
                "files of token ids with data.path"
            )
        if self.name not in ("text", "examples", "preferences"):
            # the default's comes with every run that names no file
            default = type(self).model_fields["valid_fraction"].default
            if self.valid_fraction not in (0, default):
                note(
                    f"data.valid_fraction has no effect: the dataset {show(self.name)} is "
                    "validated on data.valid_path only"
                )
        if self.name != "text":
            return
        if not self.path and not self.sources:
            raise ConfigError(
                "data.path: not set; name a text file, such as --set data.path=corpus.txt"
            )
        for key in ("path", "valid_path"):
            if self.sources and getattr(self, key):
                raise ConfigError(
                    f"data.{key}: expected nothing beside data.sources, got "
                    f"{show(getattr(self, key))}; put it in a table of its own, [[data.sources]]"
                )
