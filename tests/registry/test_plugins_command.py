"""``tisslm plugins``: every part in the table and in the JSON list, and the plugins left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from tisslm.cli.plugins import plugins
from tisslm.registry.discovery import DISABLE_VARIABLE, tisslm_version
from tisslm.registry.hookspecs import KINDS

if TYPE_CHECKING:
    from conftest import FakeSite


@pytest.fixture
def app(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    site.add_names("tisslm-lion", "0.2.1", "optimizer", "lion")
    site.add("tisslm-foo", "1.0", "raise ImportError('no [red]libfoo.so')\n")
    site.add_names("tisslm-off", "3.0", "loss", "off")
    monkeypatch.setenv(DISABLE_VARIABLE, "tisslm-off")
    app = typer.Typer()
    app.command()(plugins)
    return app


def test_json_lists_every_part_with_its_distribution(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert all(
        list(row) == ["kind", "name", "distribution", "version", "description", "status"]
        for row in rows
    )
    assert {row["kind"] for row in rows} == {*KINDS, None}
    assert [row for row in rows if row["distribution"] != "tisslm"] == [
        {
            "kind": "optimizer",
            "name": "lion",
            "distribution": "tisslm-lion",
            "version": "0.2.1",
            "description": "a part",
            "status": "ok",
        },
        {
            "kind": None,
            "name": None,
            "distribution": "tisslm-foo",
            "version": "1.0",
            "description": "tisslm-foo 1.0 could not be imported: ImportError: no [red]libfoo.so",
            "status": "broken",
        },
        {
            "kind": None,
            "name": None,
            "distribution": "tisslm-off",
            "version": "3.0",
            "description": "tisslm-off 3.0 is switched off by TISSLM_DISABLE_PLUGINS",
            "status": "disabled",
        },
    ]
    (adamw,) = [row for row in rows if row["name"] == "adamw"]
    assert (adamw["distribution"], adamw["version"]) == ("tisslm", tisslm_version())


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_table_has_every_name_and_provider_whole(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["optimizer", "lion", "tisslm-lion", "0.2.1", "a", "part"] in lines
    assert lines[0] == ["kind", "name", "provider", "description"]
    assert ["broken", "tisslm-foo", "1.0"] in [line[:3] for line in lines]
    assert ["disabled", "tisslm-off", "3.0"] in [line[:3] for line in lines]
    assert "[red]" in result.stdout
