"""A launcher and its first rank: streams that are lent, and a note that is left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from tisslm.system.launched import FOLDER, Lender, Note, leave_note, read_note

NOTE = Note("runs/a", "runs/a/checkpoints")

PROGRAM = """
import os
from tisslm.system.launched import take_streams
take_streams()
os.write(1, b"out")
os.write(2, b"err")
"""


def rank(number, folder):
    return {FOLDER: str(folder), "PMI_RANK": str(number), "PMI_SIZE": "2"}


def test_the_first_rank_leaves_a_note_and_no_other_does(tmp_path):
    leave_note(NOTE, rank(1, tmp_path))
    leave_note(NOTE, {})
    assert read_note(tmp_path) is None
    leave_note(NOTE, rank(0, tmp_path))
    assert read_note(tmp_path) == NOTE
    leave_note(Note("runs/b", "c", complete=True), {FOLDER: str(tmp_path)})
    assert read_note(tmp_path) == Note("runs/b", "c", complete=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "x"}'])
def test_a_note_that_is_none_is_not_read(tmp_path, text):
    (tmp_path / "note.json").write_text(text)
    assert read_note(tmp_path) is None


def test_a_launcher_that_has_gone_is_no_error(tmp_path):
    leave_note(NOTE, rank(0, tmp_path / "gone"))


def run_rank(environment):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
    )


@pytest.mark.parametrize(("number", "own"), [(0, b""), (1, b"out")])
def test_the_first_rank_writes_to_the_streams_of_the_launcher(tmp_path, number, own):
    folder = tmp_path / "shared"
    folder.mkdir()
    lender, over = Lender(folder), threading.Event()

    def lend():
        while not over.is_set():
            lender.lend(0.05)

    saved = [os.dup(handle) for handle in (1, 2)]
    file = os.open(tmp_path / "lent", os.O_CREAT | os.O_WRONLY)
    thread = threading.Thread(target=lend)
    try:
        for handle in (1, 2):
            os.dup2(file, handle)
        thread.start()
        done = run_rank(rank(number, folder))
    finally:
        over.set()
        thread.join()
        lender.close()
        for handle, kept in zip((1, 2), saved, strict=True):
            os.dup2(kept, handle)
            os.close(kept)
        os.close(file)
    assert done.stdout == own
    assert ((tmp_path / "lent").read_bytes() == b"outerr") == (number == 0)


def test_without_anybody_who_lends_a_rank_keeps_its_streams(tmp_path):
    done = run_rank(rank(0, tmp_path))
    assert (done.stdout, done.stderr) == (b"out", b"err")


def test_a_folder_whose_path_is_too_long_lends_nothing(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    lender = Lender(folder)
    lender.lend(0.01)
    lender.close()
