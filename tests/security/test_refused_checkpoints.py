"""A checkpoint that a trainer refuses changes nothing of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from checkpoints import reseal
from fuzz.targets.checkpoint import Files

from tisslm.errors import CheckpointError


def test_a_changed_checkpoint_that_is_refused_changes_nothing(tmp_path):
    files = Files(tmp_path / "good")
    trainer, folder = files.trainer, tmp_path / "checkpoint-3"
    shutil.copytree(files.good, folder)
    trainer.load_checkpoint(files.good)
    before = trainer.model.parameters.data.copy()
    state = json.loads((folder / "trainer_state.json").read_bytes())
    del state["global_step"]
    (folder / "trainer_state.json").write_text(json.dumps(state))
    arrays = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(arrays[:-4] + b"\x00\x00\x80?")
    reseal(folder)
    with pytest.raises(CheckpointError, match="not the state of a trainer"):
        trainer.load_checkpoint(folder)
    assert np.array_equal(before, trainer.model.parameters.data)
