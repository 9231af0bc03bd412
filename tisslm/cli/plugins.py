"""``tisslm plugins``: every part that can be named, and who provides it.

What does not live here: finding them (``tisslm.plugins``, ``tisslm.registry``).
"""

from __future__ import annotations

from json import dumps
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tisslm.hookspecs import KINDS
from tisslm.registry import Registry, load_registry

__all__ = ["plugins"]


def plugins(
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")] = False,
) -> None:
    """List every part: kind, name, distribution, version, description.

    Plugins that are broken or switched off come last, with the reason.
    """
    rows = _rows(load_registry())
    if json:
        typer.echo(dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("kind", "name", "provider"):
        table.add_column(heading, no_wrap=True)
    table.add_column("description", overflow="fold")
    for row in rows:
        provider = f"{row['distribution']} {row['version']}"
        kind = row["kind"] or row["status"]
        table.add_row(kind, row["name"], provider, row["description"])
    Console(markup=False, emoji=False, highlight=False).print(table)


def _rows(registry: Registry) -> list[dict[str, str | None]]:
    """Describe every part, then every plugin left out (whose kinds and names are unknown)."""
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
