"""``tisslm gradcheck``: its table, its JSON, its exit code, and the models that it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tisslm import ops
from tisslm.cli.gradcheck import gradcheck
from tisslm.errors import ConfigError


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(gradcheck)
    return app


@pytest.fixture
def wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negate what one compiled kernel gives."""
    op = ops.dropout_backward

    def negated(dy, dx, *rest):
        op(dy, dx, *rest)
        if dx.dtype == "float32":
            dx *= -1

    monkeypatch.setattr(ops, "dropout_backward", negated)


def config_file(folder: Path, model: str) -> Path:
    path = folder / "config.toml"
    path.write_text(f'[data]\npath = "nowhere.txt"\n\n[model]\n{model}\n', encoding="utf-8")
    return path


def test_the_table_ends_with_a_verdict_and_the_code_is_0(app, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["--component", "layer_norm"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["kind", "name", "compared", "error", "below", "worst", "element"]
    assert lines[1].split()[:3] == ["ok", "kernel", "layer_norm"]
    assert "1e-06" in lines[1]
    assert "expected" in lines[1]
    assert lines[-1].startswith("2 rows passed, 118,251 numbers compared")


def test_a_failure_is_marked_and_the_code_is_1(app, wrong_kernel, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["--component", "dropout"])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["ok", "FAIL"]
    assert "float32 vs float64" in lines[2]
    assert "2.0e+00" in lines[2]
    assert lines[-1].startswith("1 of 2 rows failed")


def test_json_has_every_field_of_a_row(app, wrong_kernel):
    result = CliRunner().invoke(app, ["--component", "dropout", "--json"])
    assert result.exit_code == 1
    right, wrong = json.loads(result.stdout)
    assert list(right) == [
        "kind",
        "name",
        "what",
        "error",
        "tolerance",
        "worst",
        "n_checked",
        "passed",
    ]
    assert (right["passed"], wrong["passed"]) == (True, False)
    assert wrong["error"] == pytest.approx(2.0)
    assert wrong["worst"].startswith("d x_NC[")


def test_an_error_without_bound_is_still_json(app, monkeypatch):
    def fails(*_):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(ops, "dropout_backward", fails)
    result = CliRunner().invoke(app, ["--component", "dropout", "--json"])
    rows = json.loads(result.stdout)
    assert [row["error"] for row in rows] == ["Infinity", "Infinity"]
    assert rows[0]["worst"] == "RuntimeError: no kernel"


@pytest.mark.parametrize(
    "model",
    [
        "n_layer = 1\nn_head = 1\nn_embd = 4\nseq_len = 6",
        'preset = "char-tiny"\nn_layer = 1\nn_head = 2\nn_embd = 8\nseq_len = 6\nvocab_size = 7',
    ],
    ids=["sizes", "preset"],
)
def test_the_model_of_a_configuration_is_checked_alone(app, tmp_path, model):
    path = config_file(tmp_path, model)
    result = CliRunner().invoke(app, ["--model", str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert [row["name"] for row in json.loads(result.stdout)] == [
        "transformer",
        "transformer",
        "transformer_documents",
        "transformer_documents",
        "transformer_logits",
        "transformer_logits",
    ]


def test_a_large_model_is_refused(app, tmp_path):
    path = config_file(tmp_path, 'preset = "gpt2"')
    result = CliRunner().invoke(app, ["--model", str(path)])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == (
        f"gradcheck: {path}: expected a model of at most 1,000,000 parameters, got 124,439,808; "
        "lower model.n_layer or model.n_embd for the check, which leaves the formulas as they are"
    )


def test_an_unknown_component_is_a_configuration_error(app):
    result = CliRunner().invoke(app, ["--component", "sofmax"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("gradcheck: unknown component 'sofmax'. Known: ")
