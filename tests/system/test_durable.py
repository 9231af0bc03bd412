"""A file that is replaced is the old one or the new one, whole, whatever happens on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tisslm.system.durable import replacing


def write(path: Path, content: bytes = b"after") -> None:
    with replacing(path) as file:
        file.write(content)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    return path


def test_the_old_file_is_there_until_the_new_one_is_whole(old: Path) -> None:
    with replacing(old) as file:
        file.write(b"after")
        file.flush()
        assert old.read_bytes() == b"before"
    assert old.read_bytes() == b"after"
    assert os.listdir(old.parent) == ["file"]


def test_file_and_name_are_on_the_disk(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda n: synced.append(os.readlink(f"/proc/self/fd/{n}")))
    write(old)
    assert synced == [f"{old.parent}/.tmp-file-{os.getpid()}", str(old.parent)]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["fsync", "rename"])
def test_whatever_fails_leaves_the_old_file_alone(
    old: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, where, fail)
    with pytest.raises(type(error)):
        write(old)
    assert old.read_bytes() == b"before"
    assert os.listdir(old.parent) == ["file"]


def test_a_block_that_raises_leaves_the_old_file_alone(old: Path) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"), replacing(old) as file:
        file.writelines(blocks())
    assert old.read_bytes() == b"before"
    assert os.listdir(old.parent) == ["file"]


def test_a_path_relative_to_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("file"))
    assert (tmp_path / "file").read_bytes() == b"after"
