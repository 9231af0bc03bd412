"""What is written is read; which checkpoint is found, what is said of damage, and litter."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from checkpoints import flip, names, reseal
from crash.saver import tiny

from tisslm import checkpoint
from tisslm.checkpoint import MODEL, OPTIMIZER, TRAINER
from tisslm.checkpoint.files import TOKENIZER
from tisslm.checkpoint.manifest import MANIFEST
from tisslm.errors import CheckpointError
from tisslm.registry import load_registry
from tisslm.system.safe_files import RegularFile
from tisslm.tokenizers import BpeTokenizer, CharTokenizer
from tisslm.workflows.tokenize.choice import load_tokenizer

DEAD = 2**22 + 1  # above the largest number that a process can have


def with_files(files: dict) -> checkpoint.Checkpoint:
    """Return a tiny checkpoint without a tokenizer, with some of its contents replaced."""
    found = tiny(1.0)
    own = {file: content for file, content in found.files.items() if file != TOKENIZER}
    return replace(found, files=own | files)


# --------------------------------------------------------------------------- reading back


def test_what_is_written_is_read(run):
    found = checkpoint.read(run)
    assert found[TRAINER] == {"global_step": 1, "value": 10.0}
    assert found.metrics == {"eval/loss": 10.0}
    assert checkpoint.read_tokenizer(found) == {"name": "byte", "state": {}}
    assert (found[MODEL]["w"] == 10.0).all()
    assert set(checkpoint.read(run, [MODEL, TRAINER]).files) == {MODEL, TRAINER}


def test_a_metric_that_is_not_finite_is_not_recorded(tmp_path):
    saved = replace(tiny(1.0), metrics={"eval/loss": float("nan"), "train/loss": 2})
    path = checkpoint.write(tmp_path, 1, saved)
    assert checkpoint.read(path).metrics == {"train/loss": 2.0}


def test_a_byte_pair_tokenizer_is_a_file_of_its_library(tmp_path):
    import tokenizers

    tokenizer = BpeTokenizer.from_text("a rose is a rose is a rose", vocab_size=262)
    state = {"name": "bpe", "state": tokenizer.state()}
    path = checkpoint.write(tmp_path, 1, with_files(checkpoint.tokenizer_files(state)))
    theirs = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    assert theirs.encode("is a rose").ids == tokenizer.encode("is a rose")
    assert not (path / "tokenizer_state.json").exists()
    assert checkpoint.read_tokenizer(checkpoint.read(path)) == state


def test_what_is_said_of_a_tokenizer_is_beside_its_file(tmp_path):
    plain = BpeTokenizer.from_text("a rose is", vocab_size=262, special_tokens=["<s>", "</s>"])
    said = {"config": {"ends": [0, 1], "chat_template": "{{ messages }}"}}
    tokenizer = BpeTokenizer.from_state(plain.state() | said)
    state = {"name": "bpe", "state": tokenizer.state()}
    files = checkpoint.tokenizer_files(state, tokenizer.published())
    path = checkpoint.write(tmp_path, 1, with_files(files))
    assert json.loads((path / "tokenizer_state.json").read_text())["state"] == said
    assert json.loads((path / "generation_config.json").read_text())["eos_token_id"] == [0, 1]
    assert checkpoint.read_tokenizer(checkpoint.read(path)) == state
    assert load_tokenizer(path, load_registry())[1].state() == tokenizer.state()
    assert BpeTokenizer.from_folder(path).ends == (0, 1)


def test_a_beginning_that_the_file_lacks_is_in_the_one_for_others(tmp_path):
    plain = BpeTokenizer.from_text("a rose is", vocab_size=262, special_tokens=["<s>", "</s>"])
    tokenizer = BpeTokenizer.from_state(plain.state() | {"config": {"begin": [0]}})
    state = {"name": "bpe", "state": tokenizer.state()}
    files = checkpoint.tokenizer_files(state, tokenizer.published())
    path = checkpoint.write(tmp_path, 1, with_files(files))
    assert checkpoint.read_tokenizer(checkpoint.read(path)) == state
    assert load_tokenizer(path, load_registry())[1].state() == tokenizer.state()
    assert BpeTokenizer.from_folder(path).begin == (0,)


def test_a_tokenizer_of_characters_is_one_of_the_library_too(tmp_path):
    import tokenizers

    tokenizer = CharTokenizer(characters="ab\n")
    state = {"name": "char", "state": tokenizer.state()}
    files = checkpoint.tokenizer_files(state, tokenizer.published())
    path = checkpoint.write(tmp_path, 1, with_files(files))
    theirs = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    assert theirs.encode("b\na").ids == tokenizer.encode("b\na") == [2, 0, 1]
    assert checkpoint.read_tokenizer(checkpoint.read(path)) == state


def test_another_tokenizer_with_such_a_state_keeps_its_name(tmp_path):
    state = {"name": "mine", "state": {"tokenizer": {"model": {}}}}
    path = checkpoint.write(tmp_path, 1, with_files(checkpoint.tokenizer_files(state)))
    assert json.loads((path / "tokenizer_state.json").read_text()) == state
    assert checkpoint.read_tokenizer(checkpoint.read(path)) == state


def test_large_arrays_are_hashed_beside_the_writing(tmp_path):
    threads = set(threading.enumerate())  # of plugins that another test has loaded
    arrays = {"a": np.arange(3 * 2**20, dtype=np.float32), "t": np.ones((700, 900)).T}
    path = checkpoint.write(tmp_path, 1, with_files({MODEL: arrays, OPTIMIZER: arrays}))
    found = checkpoint.read(path)
    assert all(np.array_equal(found[MODEL][name], arrays[name]) for name in arrays)
    assert not set(threading.enumerate()) - threads


# --------------------------------------------------------------------------- finding


def test_paths_that_mean_a_checkpoint(run):
    newest = run / "checkpoints" / "checkpoint-10"
    for path in (run, run / "checkpoints", newest, str(run)):
        assert checkpoint.resolve(path) == newest
    founding = run / "checkpoints" / "checkpoint_step_2.bin"
    assert checkpoint.resolve(founding).name == "checkpoint-2"
    assert [p.name for p in checkpoint.list_checkpoints(run / "checkpoints")] == [
        "checkpoint-1",
        "checkpoint-2",
        "checkpoint-10",
    ]


def test_the_newest_that_verifies_is_taken_with_a_warning(run):
    folder = run / "checkpoints"
    flip(folder / "checkpoint-10" / "optimizer.safetensors")
    (folder / "checkpoint-2" / "config.json").write_text("{}")
    with pytest.warns(RuntimeWarning) as seen:
        assert checkpoint.resolve(run) == folder / "checkpoint-1"
    first, second = (str(warning.message) for warning in seen)
    assert first.startswith(
        f"{folder}/checkpoint-10 is damaged (optimizer.safetensors: expected SHA-256 "
    )
    assert first.endswith("...); taking checkpoint-1 instead")
    assert second == (
        f"{folder}/checkpoint-2 is damaged (config.json: expected 12 bytes, got 2); "
        "taking checkpoint-1 instead"
    )


def test_a_checkpoint_that_is_named_is_not_replaced_by_another(run):
    path = run / "checkpoints" / "checkpoint-10"
    (path / "trainer_state.json").write_text("{}")
    size = checkpoint.read_manifest(path).files["trainer_state.json"].size
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(path)
    assert str(error.value) == (
        f"{path}/trainer_state.json: the checkpoint is damaged or incomplete (expected {size} "
        "bytes, got 2); use an earlier one"
    )


def test_a_run_of_which_nothing_verifies(run):
    for step in (1, 2, 10):
        (run / "checkpoints" / f"checkpoint-{step}" / "config.json").unlink()
    with pytest.raises(CheckpointError) as error:
        checkpoint.newest(run / "checkpoints")
    assert str(error.value) == (
        f"{run}/checkpoints: none of its 3 checkpoints can be used; of the newest, checkpoint-10, "
        "config.json: expected a file of 12 bytes, got none. Put one back from a copy, or start "
        "anew in another directory"
    )


def test_a_folder_without_checkpoints_has_no_newest(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "nowhere") is None


def test_a_directory_from_before_manifests_is_refused_with_that_reason(run):
    path = run / "checkpoints" / "checkpoint-10"
    (path / MANIFEST).unlink()
    with pytest.raises(CheckpointError) as error:
        checkpoint.resolve(path)
    assert str(error.value) == (
        f"{path}/manifest.json: the checkpoint is damaged or incomplete (expected a manifest, got "
        "none: it was not written or copied to the end, or by a version without manifests); use "
        "an earlier one"
    )
    with pytest.warns(RuntimeWarning, match=r"checkpoint-10 is damaged \(manifest.json: expected"):
        assert checkpoint.resolve(run).name == "checkpoint-2"


def test_what_was_found_is_read_without_hashing_it_again(run, monkeypatch):
    hashed = []
    sha256 = RegularFile.sha256
    monkeypatch.setattr(
        RegularFile, "sha256", lambda file: hashed.append(file.path) or sha256(file)
    )
    found = checkpoint.find(run)
    assert sorted(path.name for path in hashed) == sorted(found.manifest.files)
    assert checkpoint.find(found) is found
    checkpoint.read(found)
    assert len(hashed) == len(found.manifest.files)
    flip(found.path / "model.safetensors")  # and who asks anew is told what is now
    with pytest.raises(CheckpointError, match=r"model.safetensors: the checkpoint is damaged"):
        checkpoint.read(found.path)


@pytest.mark.parametrize("key", ["format_version", "step", "metrics"])
def test_numbers_beyond_all_measure(run, key):
    path = run / "checkpoints" / "checkpoint-10" / MANIFEST
    huge = 10**400
    value = json.loads(path.read_text())
    value[key] = {"eval/loss": huge} if key == "metrics" else huge
    path.write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match=r"manifest.json: the checkpoint is damaged"):
        checkpoint.verify(path.parent)


# --------------------------------------------------------------------------- manifests


@pytest.mark.parametrize("at", [0, 5, 40, 100, 300, -2])
def test_every_change_of_a_manifest_is_found(run, at):
    path = run / "checkpoints" / "checkpoint-10"
    flip(path / MANIFEST, at)
    with pytest.raises(CheckpointError, match=r"manifest.json: the checkpoint is damaged"):
        checkpoint.verify(path)


def test_spaces_more_are_a_change_too(run):
    path = run / "checkpoints" / "checkpoint-10" / MANIFEST
    path.write_text(path.read_text() + "\n")
    with pytest.raises(CheckpointError, match="fits its checksum, got one that was changed"):
        checkpoint.verify(path.parent)


def test_a_later_format_says_so(run):
    path = run / "checkpoints" / "checkpoint-10" / MANIFEST
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 7'))
    with pytest.raises(CheckpointError, match="expected format version 1, got 7, of a newer Tis"):
        checkpoint.verify(path.parent)


def test_a_file_beside_those_of_the_manifest_changes_nothing(run):
    (run / "checkpoints" / "checkpoint-10" / "notes.txt").write_text("mine")
    assert checkpoint.problems(run / "checkpoints" / "checkpoint-10") == []


# --------------------------------------------------------------------------- litter


def test_litter_of_the_dead_is_removed_and_of_the_living_is_not(run):
    folder = run / "checkpoints"
    for name in (f"checkpoint-3-{DEAD}", f"old-checkpoint-3-{DEAD}", f"checkpoint-3-{os.getpid()}"):
        shutil.copytree(folder / "checkpoint-1", folder / f".tmp-{name}")
    alive = f".tmp-checkpoint-4-{os.getppid()}"
    (folder / alive).mkdir()
    checkpoint.clean(folder)
    assert names(folder) == [alive, "checkpoint-1", "checkpoint-10", "checkpoint-2"]


def test_a_number_that_was_given_again_is_not_its_first_owner(run):
    folder = run / "checkpoints"
    left = folder / f".tmp-checkpoint-4-{os.getppid()}"
    left.mkdir()
    os.utime(left, (1, 1))  # made long before the process with this number began
    checkpoint.clean(folder)
    assert not left.exists()


def test_what_was_put_aside_is_found_where_it_is_and_put_back(run):
    folder = run / "checkpoints"
    aside = folder / f".tmp-aside-checkpoint-10-{DEAD}"
    (folder / "checkpoint-10").rename(aside)
    assert checkpoint.resolve(run) == aside
    assert checkpoint.resolve(folder / "checkpoint-10") == aside
    checkpoint.clean(folder)
    assert checkpoint.resolve(run) == folder / "checkpoint-10"


def test_what_was_put_aside_replaces_a_successor_that_is_damaged(run):
    folder = run / "checkpoints"
    shutil.copytree(folder / "checkpoint-10", folder / f".tmp-aside-checkpoint-10-{DEAD}")
    flip(folder / "checkpoint-10" / "config.json", 0)
    with pytest.warns(RuntimeWarning, match="checkpoint-10 is damaged"):
        assert checkpoint.resolve(run).name == f".tmp-aside-checkpoint-10-{DEAD}"
    checkpoint.clean(folder)
    assert names(folder) == ["checkpoint-1", "checkpoint-10", "checkpoint-2"]
    assert checkpoint.resolve(run) == folder / "checkpoint-10"


def test_what_cannot_be_written_is_not_half_written(run):
    unwritable = with_files({TRAINER: {"value": object()}})
    with pytest.raises(TypeError):
        checkpoint.write(run / "checkpoints", 11, unwritable)
    assert names(run / "checkpoints") == ["checkpoint-1", "checkpoint-10", "checkpoint-2"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({1: "a", "1": "b"}, "the key '1' is there twice"),
        (json.loads("[" * 70 + "]" * 70), "expected JSON of at most 64 levels, got more"),
    ],
)
def test_what_could_not_be_read_is_not_written(run, state, reason):
    with pytest.raises(CheckpointError) as error:
        checkpoint.write(run / "checkpoints", 11, with_files({TRAINER: {"parts": state}}))
    assert str(error.value) == (
        f"trainer_state.json: what was to be written could not be read again ({reason}); give the "
        "part whose state it is one of plain JSON values under distinct names"
    )
    assert names(run / "checkpoints") == ["checkpoint-1", "checkpoint-10", "checkpoint-2"]


def test_a_disk_that_takes_no_hints_is_written_to(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    large = with_files({OPTIMIZER: {"w/m": np.ones(2**22, np.float32)}})
    assert checkpoint.problems(checkpoint.write(tmp_path, 1, large)) == []


def test_what_is_set_aside_is_numbered_and_kept(run):
    folder = run / "checkpoints"
    (folder / "superseded-checkpoint-10").mkdir()
    moved = checkpoint.set_aside(folder, 1)
    assert [path.name for path in moved] == [
        "superseded-checkpoint-10-2",
        "superseded-checkpoint-2",
    ]
    assert checkpoint.resolve(folder / "superseded-checkpoint-2").name == moved[1].name


def test_a_file_that_was_changed_on_purpose_verifies_after_sealing(run):
    path = run / "checkpoints" / "checkpoint-10"
    (path / "config.json").write_text("{}")
    reseal(path)
    assert checkpoint.problems(path) == []
