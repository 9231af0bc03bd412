"""A model is opened wherever it is, and a run may start from it."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm.config import RunConfig
from tisslm.config.model import FAMILIES
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.huggingface.folder import read_folder
from tisslm.models.transformer import Transformer
from tisslm.registry import load_registry
from tisslm.training.trainer import Trainer
from tisslm.workflows.build.trainer import build_trainer
from tisslm.workflows.load_model import load_model
from tisslm.workflows.open_model import open_model

TEXT = "".join(f"{i} green bottles hang on the wall, and {i} of them fall.\n" for i in range(60))
SIZES = {"n_layer": 1, "n_head": 2, "n_embd": 16, "seq_len": 16}
#: What a folder has that transformers has saved.
PUBLISHED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def build(
    folder: Path, model: dict[str, Any], tokenizer: str | None = None, **training: Any
) -> Trainer:
    (folder / "text.txt").write_text(TEXT)
    tables = {
        "model": model,
        "data": {"path": str(folder / "text.txt")},
        "training": {
            "batch_size": 4,
            "max_steps": 4,
            "output_dir": str(folder / "run"),
            **training,
        },
        "log": {"sinks": []},
    }
    if tokenizer or "from" not in model:
        tables["tokenizer"] = {"name": tokenizer or "byte"}
    return build_trainer(RunConfig.from_mapping(tables))


def values(model: Transformer) -> dict[str, Any]:
    return {name: array.copy() for name, array in model.parameters.state().items()}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def published(run: Path, to: Path) -> Path:
    """Copy what others would publish of the newest checkpoint of a run."""
    to.mkdir()
    for name in PUBLISHED:
        shutil.copy(run / "checkpoints/checkpoint-4" / name, to)
    return to


@pytest.fixture
def trained(tmp_path):
    (tmp_path / "first").mkdir()
    trainer = build(tmp_path / "first", {"family": "llama", **SIZES})
    trainer.train()
    return tmp_path / "first/run", values(trainer.model)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_is_a_folder_that_others_read(tmp_path, family):
    trainer = build(tmp_path, {"family": family, **SIZES})
    trainer.train()
    folder = tmp_path / "run/checkpoints/checkpoint-4"
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == family
    assert config["tisslm"] == trainer.model.settings()
    again = Transformer.of_published(read_folder(folder))
    assert same(values(again), values(trainer.model))
    assert same(values(load_model(folder)[0]), values(trainer.model))


@pytest.mark.parametrize("keys", [{"logit_cap": 30.0}, {"mup_base_width": 8}])
def test_a_shape_that_nobody_else_has_keeps_our_names(tmp_path, keys):
    trainer = build(tmp_path, {"family": "llama", **SIZES, **keys})
    trainer.train()
    folder = tmp_path / "run/checkpoints/checkpoint-4"
    config = json.loads((folder / "config.json").read_text())
    assert config == trainer.model.settings()
    assert same(values(load_model(folder)[0]), values(trainer.model))


@pytest.mark.parametrize("form", ["run", "checkpoint", "folder"])
def test_a_run_starts_from_any_model(tmp_path, trained, form):
    run, weights = trained
    source = {"run": run, "checkpoint": run / "checkpoints/checkpoint-4"}.get(form)
    source = source or published(run, tmp_path / "published")
    trainer = build(tmp_path, {"from": str(source), "dropout": 0.25, "seq_len": 12})
    assert same(values(trainer.model), weights)
    assert trainer.model.config.seq_len == 12
    assert trainer.model.config.dropout == 0.25
    assert trainer.model.family == "llama"
    assert trainer.tokenizer.encode("a") == [97]
    trainer.train()
    assert not same(values(trainer.model), weights)
    resolved = RunConfig.load(tmp_path / "run/config.resolved.toml", env={})
    assert resolved.model == {"from": str(source), "dropout": 0.25, "seq_len": 12}
    assert resolved.tokenizer.name == "model"


def test_a_resumed_run_needs_no_longer_what_it_started_from(tmp_path, trained):
    source = published(trained[0], tmp_path / "published")
    (tmp_path / "whole").mkdir()
    whole = build(tmp_path / "whole", {"from": str(source)}, max_steps=8)
    whole.train()
    build(tmp_path, {"from": str(source)}, max_steps=8, save_every=4).train()
    shutil.rmtree(tmp_path / "run/checkpoints/checkpoint-8")
    shutil.rmtree(source)
    again = build(tmp_path, {"from": str(source)}, max_steps=8, save_every=4, resume="auto")
    assert again.current_step == 4
    again.train()
    assert same(values(again.model), values(whole.model))


def test_it_is_found_without_what_it_started_from(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = published(trained[0], tmp_path / "published")
    build(tmp_path, {"from": str(source)}, output_dir="").train()
    shutil.rmtree(source)
    again = build(tmp_path, {"from": str(source)}, output_dir="", resume="auto")
    assert again.current_step == 4


@pytest.mark.parametrize("tokenizer", [None, "byte"])
@pytest.mark.parametrize("way", ["auto", "path"])
def test_a_run_from_a_model_without_a_tokenizer_resumes_with_its_own(
    tmp_path, trained, monkeypatch, tokenizer, way
):
    monkeypatch.chdir(tmp_path)
    source = published(trained[0], tmp_path / "published")
    for file in source.glob("tokenizer*"):
        file.unlink()
    first = build(tmp_path, {"from": str(source)}, tokenizer, output_dir="")
    first.train()
    (run,) = (tmp_path / "runs").iterdir()
    resume = "auto" if way == "auto" else str(run)
    again = build(tmp_path, {"from": str(source)}, tokenizer, output_dir="", resume=resume)
    assert again.current_step == 4
    again.train()
    assert list((tmp_path / "runs").iterdir()) == [run]
    assert again.tokenizer.state() == first.tokenizer.state()
    written = RunConfig.load(run / "config.resolved.toml", env={})
    assert written.tokenizer.name == (tokenizer or "char")


@pytest.mark.parametrize("named", [True, False])
def test_a_tokenizer_that_the_weights_do_not_know_is_noted(tmp_path, trained, named):
    source = published(trained[0], tmp_path / "published")
    for path in source.glob("tokenizer*"):
        path.unlink()
    (tmp_path / "text.txt").write_text(TEXT)
    tables = {"model": {"from": str(source)}, "data": {"path": str(tmp_path / "text.txt")}}
    if named:
        tables["tokenizer"] = {"name": "byte"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build_trainer(RunConfig.from_mapping(tables))
    said = [str(warning.message) for warning in caught]
    noted = [line for line in said if f"{source} has no tokenizer, so that of the run is" in line]
    assert len(noted) == (0 if named else 1)


@pytest.mark.parametrize("named", [{"tokenizer": {"name": "byte"}}, {}])
@pytest.mark.parametrize("folder", ["run", ""])
def test_a_run_from_a_model_without_a_tokenizer_goes_on(
    tmp_path, trained, monkeypatch, named, folder
):
    source = published(trained[0], tmp_path / "published")
    for path in source.glob("tokenizer*"):
        path.unlink()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)

    def begin(**training: Any) -> Trainer:
        settings = {"batch_size": 4, "max_steps": 8, "save_every": 4, "output_dir": folder}
        tables = {
            "model": {"from": str(source)},
            "data": {"path": "text.txt"},
            "training": {**settings, **training},
            "log": {"sinks": []},
            **named,
        }
        return build_trainer(RunConfig.from_mapping(tables))

    whole = begin()
    whole.train()
    shutil.rmtree(whole.run.checkpoints / "checkpoint-8")
    again = begin(resume="auto")
    assert (again.run.path, again.current_step) == (whole.run.path, 4)
    again.train()
    assert same(values(again.model), values(whole.model))


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ({"n_layer": 2}, {}, "model.n_layer: expected only seq_len and dropout beside model.from"),
        ({"preset": "gpt2"}, {}, "model.preset: expected only seq_len and dropout"),
        ({}, {"tokenizer": {"name": "char"}}, "tokenizer.name: .* has a tokenizer of its own"),
        ({"seq_len": 0}, {}, "model.seq_len: expected an integer >= 1"),
    ],
)
def test_what_does_not_go_with_it_is_refused(tmp_path, trained, model, more, message):
    (tmp_path / "text.txt").write_text(TEXT)
    tables = {
        "model": {"from": str(trained[0]), **model},
        "data": {"path": str(tmp_path / "text.txt")},
        **more,
    }
    with pytest.raises(ConfigError, match=message):
        build_trainer(RunConfig.from_mapping(tables))


def test_a_tokenizer_of_the_model_needs_a_model(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    tables = {
        "model": {"preset": "char-tiny"},
        "data": {"path": str(tmp_path / "text.txt")},
        "tokenizer": {"name": "model"},
    }
    with pytest.raises(ConfigError, match="the tokenizer of the model that"):
        build_trainer(RunConfig.from_mapping(tables))


def test_what_is_no_model_is_refused(tmp_path, trained):
    registry = load_registry()
    (tmp_path / "empty").mkdir()
    for path in ("empty", "nowhere"):
        with pytest.raises(CheckpointError, match="Hugging Face transformers or a GGUF"):
            open_model(tmp_path / path, registry)
    folder = published(trained[0], tmp_path / "published")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {**vocab, "<new>": len(vocab)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="its tokenizer has 257 ids, its model"):
        open_model(folder, registry)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"expected config\.json"):
        open_model(folder, registry)


def test_a_checkpoint_that_lost_its_manifest_is_not_taken_for_a_folder_of_others(trained):
    folder = trained[0] / "checkpoints/checkpoint-4"
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError):
        load_model(folder)
