"""Opening waits for nobody, and is done in one place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import tisslm
from tisslm.system.safe_files import open_at_once


def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    handle = open_at_once(tmp_path / "pipe")
    try:
        assert stat.S_ISFIFO(os.fstat(handle).st_mode)
        assert not os.get_inheritable(handle)
    finally:
        os.close(handle)


def test_a_link_is_followed_only_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    handle = open_at_once(tmp_path / "link")
    assert os.read(handle, 10) == b"content"
    os.close(handle)
    with pytest.raises(OSError, match="symbolic links"):
        open_at_once(tmp_path / "link", follow=False)


def test_there_is_one_opener() -> None:
    package = Path(tisslm.__file__).parent
    found = [p for p in package.rglob("*.py") if "O_NONBLOCK" in p.read_text("utf-8")]
    assert [str(path.relative_to(package)) for path in found] == ["system/safe_files.py"]
