"""``tisslm plugins``: every part that can be named, and the distribution that provides it.

Parts are found in ``tisslm.registry.discovery``.
"""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from typing import Annotated

import typer

from tisslm.cli._terminal import TEXT, WORD, say, show_table
from tisslm.registry import Registry, load_registry
from tisslm.registry.hookspecs import KINDS

__all__ = ["plugins"]


def plugins(
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")] = False,
) -> None:
    """List every part: kind, name, distribution, version, description.

    Plugins that are broken or switched off come last, with the reason.
    """
    rows = _rows(load_registry())
    if json:
        say(dumps(rows, indent=2))
        return
    show_table(
        {"kind": WORD, "name": WORD, "provider": WORD, "description": TEXT}, map(_cells, rows)
    )


def _cells(row: Mapping[str, str | None]) -> list[str]:
    provider = f"{row['distribution']} {row['version']}"
    return [
        row["kind"] or row["status"] or "",
        row["name"] or "",
        provider,
        row["description"] or "",
    ]


def _rows(registry: Registry) -> list[dict[str, str | None]]:
    """Describe every part, then every plugin that was left out, whose parts are unknown."""
    rows: list[dict[str, str | None]] = [
        {
            "kind": part.kind.name,
            "name": part.entry.name,
            "distribution": part.provider.distribution,
            "version": part.provider.version,
            "description": part.entry.description,
            "status": "ok",
        }
        for kind in KINDS
        for part in registry.entries(kind)
    ]
    rows += [
        {
            "kind": None,
            "name": None,
            "distribution": plugin.provider.distribution,
            "version": plugin.provider.version,
            "description": str(plugin),
            "status": plugin.status,
        }
        for plugin in registry.left_out
    ]
    return rows
