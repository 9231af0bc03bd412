"""Folders of published models made to harm: they run nothing, and open nothing but themselves."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_folders import model_of, save, write_shards

WEIGHTS, CONFIG = "model.safetensors", "config.json"
INDEX, SHARD = "model.safetensors.index.json", "model-00001-of-00003.safetensors"


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def pickled(folder: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps(Bomb(folder.parent / "was run")))


def device(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")


def outside(folder: Path, name: str) -> None:
    content = json.loads((folder / INDEX).read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], name)
    (folder / INDEX).write_text(json.dumps(content))


def code(folder: Path, name: str) -> None:
    """Bring code along, as folders do that want to be trusted."""
    (folder / "modeling.py").write_text(f"open({str(folder.parent / 'was run')!r}, 'w')")
    content = json.loads((folder / CONFIG).read_text())
    content["auto_map"] = {name: "modeling.Model"}
    (folder / CONFIG).write_text(json.dumps(content))


CASES: dict[str, tuple[Callable[[Path, str], None], str, str]] = {
    "a pickle as weights": (pickled, WEIGHTS, "whole"),
    "a pickle as configuration": (pickled, CONFIG, "whole"),
    "a pickle as index": (pickled, INDEX, "sharded"),
    "a pickle as shard": (pickled, SHARD, "sharded"),
    "a pickle beside an index": (pickled, "pytorch_model.bin", "empty"),
    "a device as weights": (device, WEIGHTS, "whole"),
    "a device as configuration": (device, CONFIG, "whole"),
    "a device as shard": (device, SHARD, "sharded"),
    "a shard above": (outside, "../../good/model.safetensors", "sharded"),
    "a shard by its whole path": (outside, "/etc/passwd.safetensors", "sharded"),
    "code of its own": (code, "AutoModelForCausalLM", "whole"),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: Any, outcomes: Any) -> dict[str, Any]:
    """Return folder and outcome of every case."""
    base = tmp_path_factory.mktemp("hostile")
    model = model_of("llama")
    exchange = model.exchange()
    assert exchange is not None
    good = save(model, base / "good")
    sharded = save(model, base / "sharded")
    (sharded / WEIGHTS).unlink()
    write_shards(sharded, dict(exchange.outward(model.parameters.state())))
    folders = {}
    for i, (name, (change, file, form)) in enumerate(CASES.items()):
        folders[name] = base / str(i) / "model"
        shutil.copytree(sharded if form == "sharded" else good, folders[name])
        if form == "empty":
            (folders[name] / WEIGHTS).unlink()
        change(folders[name], file)
    found = outcomes("model", {"good": good, **folders}, good=good)
    assert found["good"].message == ""
    return {name: (folders[name], found[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_folder_ends_in_an_error_and_does_nothing(opened: Any, name: str) -> None:
    folder, found = opened[name]
    assert found.message.startswith(str(folder))
    assert len(found.message) < 500 + len(str(folder))
    assert found.seconds < 2
    assert found.memory < 2**25
    assert not (folder.parent / "was run").exists()
    for event, what in found.events:
        assert event in {"open", "os.listdir", "os.scandir"}, (event, what)
        assert Path(what) == folder or Path(what).parent == folder or what.isdecimal(), what
