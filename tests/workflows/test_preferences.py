"""A run on preferences from a file to its evaluation: settings, held-out pairs, the reference."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from preference_runs import records
from typer.testing import CliRunner

from tisslm.cli.main import app
from tisslm.config import RunConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.optim.losses import DPO
from tisslm.registry import load_registry
from tisslm.workflows.build.trainer import build_trainer
from tisslm.workflows.open_model import open_model
from tisslm.workflows.preferences import evaluate_preferences


def run_of(folder: Path, **changes: Any) -> RunConfig:
    """Return the configuration of a small run on a file of 24 pairs."""
    path = folder / "pairs.jsonl"
    if not path.exists():
        path.write_text("".join(json.dumps(each) + "\n" for each in records(24)), "utf-8")
    tables: dict[str, dict[str, Any]] = {
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "seq_len": 24},
        "data": {"name": "preferences", "path": str(path), "valid_fraction": 0.25},
        "tokenizer": {"name": "byte"},
        "training": {"max_steps": 3, "batch_size": 4, "output_dir": str(folder / "run")},
        "log": {"sinks": []},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        tables.setdefault(section, {})[name] = value
    return RunConfig.from_mapping(tables)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def test_the_loss_follows_from_the_data_and_its_evaluation_is_made_again(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r'loss\.name = "dpo" follows from data\.name'):
        trainer = build_trainer(run_of(tmp_path))
    assert isinstance(trainer.loss_fn, DPO)
    assert trainer.val_dataset is not None
    assert len(trainer.val_dataset) >= 6
    trainer.train()
    opened = open_model(trainer.run.path, load_registry())
    model: Any = opened.build(opened.shape({}))
    found = evaluate_preferences(opened, model, load_registry())
    assert found is not None
    assert found[1].endswith("pairs.jsonl, validation part")
    again = {k: v for k, v in found[0].metrics().items() if k in trainer.state.evaluation}
    kept = {k: v for k, v in trainer.state.evaluation.items() if k in again}
    assert {k: again[k] for k in kept} == pytest.approx(kept, rel=1e-6)
    assert "eval/rewards/accuracies" in kept
    result = CliRunner().invoke(app, ["eval", str(trainer.run.path), "--json"])
    assert json.loads(result.stdout)["rewards/margins"] == pytest.approx(
        kept["eval/rewards/margins"], rel=1e-6
    )
    result = CliRunner().invoke(
        app, ["eval", str(trainer.run.path), "--data", str(tmp_path / "pairs.jsonl")]
    )
    assert "is evaluated on its own held-out pairs, without --data" in result.output
    records_then = (tmp_path / "pairs.jsonl").read_text("utf-8")
    (tmp_path / "pairs.jsonl").write_text(records_then.replace('"2:"', '"7:"'), "utf-8")
    with pytest.raises(CheckpointError, match=r"got that of other pairs or none; evaluate on the"):
        evaluate_preferences(opened, model, load_registry())


def test_a_named_loss_of_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset: expected windows of tokens, since the loss"):
        build_trainer(run_of(tmp_path, loss__name="cross_entropy"))


def test_the_plan_is_of_packed_rows(tmp_path: Path) -> None:
    from tisslm.workflows.build.trainer import plan_run, read_run

    registry = load_registry()
    planner = plan_run(read_run(run_of(tmp_path, loss__name="dpo"), registry), registry)
    assert planner.time == 24
    one, four = (planner.plan(batch_size=size).total for size in (4, 16))
    assert one < four


def test_the_command_plans_pairs_and_says_that_their_time_is_not_known(tmp_path: Path) -> None:
    from tisslm.config.toml_text import dump_toml

    path = tmp_path / "run.toml"
    path.write_text(dump_toml(run_of(tmp_path, loss__name="dpo").resolved()), "utf-8")
    result = CliRunner().invoke(app, ["plan", str(path)])
    assert "the loss needs more than passes over rows of tokens, or the family" in result.stdout
