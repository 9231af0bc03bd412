"""Options of the commands that read text files.

The files are read in ``tisslm.datasets.sources``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from tisslm.datasets.sources import BadRecords, ReadOptions
from tisslm.errors import ConfigError
from tisslm.registry import Registry
from tisslm.system.strict_toml import parse_value
from tisslm.workflows.build.formats import installed_formats

__all__ = [
    "ChatForm",
    "Inputs",
    "OnBadRecord",
    "Separator",
    "TextField",
    "key_values",
    "read_options",
]

Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT...", help="Texts, JSON lines, folders.", show_default=False),
]
Separator = Annotated[
    str,
    typer.Option(
        "--document-separator",
        metavar="TEXT",
        help="Between documents of a text file; \\n is a line's end.",
    ),
]
TextField = Annotated[
    str, typer.Option("--text-field", metavar="NAME", help="Field of JSON records.")
]
OnBadRecord = Annotated[
    str,
    typer.Option("--bad-records", metavar="error|skip", help="What becomes of a bad record."),
]
ChatForm = Annotated[
    str,
    typer.Option("--chat", metavar="template|plain", help="How conversations become text."),
]


def read_options(
    text_field: str,
    document_separator: str,
    bad_records: str,
    registry: Registry,
    chat: str = "template",
) -> ReadOptions:
    r"""Return how text is read; in a separator, ``\n`` is a line feed and ``\t`` a tab.

    Raises
    ------
    ConfigError
        If ``bad_records`` or ``chat`` is none of its choices.
    """
    if bad_records not in ("error", "skip"):
        raise ConfigError(f"--bad-records: expected error or skip, got {bad_records!r}")
    if chat not in ("template", "plain"):
        raise ConfigError(f"--chat: expected template or plain, got {chat!r}")
    return ReadOptions(
        text_field=text_field,
        document_separator=document_separator.replace("\\n", "\n").replace("\\t", "\t"),
        bad=BadRecords(cast("Literal['error', 'skip']", bad_records)),
        formats=installed_formats(registry),
        chat=cast("Literal['template', 'plain']", chat),
    )


def key_values(option: str, texts: Iterable[str]) -> dict[str, object]:
    """Parse ``key=value`` texts to a mapping; a value is read as TOML, and otherwise is a string.

    Raises
    ------
    ConfigError
        If a text has no equals sign.
    """
    found: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{option}: expected key=value, got {text!r}")
        try:
            found[key.strip().replace("-", "_")] = parse_value(value)
        except ValueError:
            found[key.strip().replace("-", "_")] = value
    return found
