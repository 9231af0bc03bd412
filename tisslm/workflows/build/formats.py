"""File formats of plugins: every installed dataset names the suffixes of the files that it reads.

The built-in formats are in ``tisslm.datasets.sources``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from tisslm.datasets.sources import Format, ReadOptions
from tisslm.errors import PluginError
from tisslm.registry import Part, Registry

__all__ = ["installed_formats"]


def installed_formats(registry: Registry) -> tuple[Format, ...]:
    """Return the formats of the installed datasets that declare which files they read.

    Parameters
    ----------
    registry : Registry
    """
    return tuple(
        Format(
            part.entry.name,
            f"a file of the dataset {part.entry.name}",
            partial(_ends, part.entry.endings),
            documents=partial(_read, part, part.entry.documents),
            records=partial(_read, part, part.entry.records) if part.entry.records else None,
        )
        for part in registry.entries("dataset")
        if part.entry.endings
    )


def _ends(endings: tuple[str, ...], path: Path) -> bool:
    return path.name.endswith(endings)


def _read(part: Part, reader: str, path: Path, options: ReadOptions) -> Iterator[Any]:
    """Import the reader of a format, ``"module:attribute"``, and read a file with it.

    Raises
    ------
    PluginError
        If the reader cannot be imported.
    """
    module, _, attribute = reader.partition(":")
    try:
        read: Any = attrgetter(attribute)(import_module(module))
    except Exception as exc:  # whatever a third party's module does at import
        raise PluginError(
            f"{part}: {reader!r} could not be imported: {type(exc).__name__}: {exc}. "
            f"Reinstall or update {part.provider.distribution}"
        ) from exc
    yield from read(path, options)
