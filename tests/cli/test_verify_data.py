"""``data.verify``: token shards are compared with their checksums before a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.tokenize import ShardFolder

if TYPE_CHECKING:
    from conftest import Cli

SHARDS = ("data.path=shards", "training.output_dir=run", "training.resume=auto")


@pytest.fixture(autouse=True)
def _shards(folder: Path) -> None:
    with ShardFolder(folder / "shards", ByteTokenizer(), "byte", 300) as made:
        for split in ("train", "valid"):
            for _ in range(5):
                made.split(split).add(np.arange(100), True)
                made.split(split).end_document()
        made.finish()


def flip(path: Path) -> None:
    """Change a bit that leaves an id an id."""
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def test_whole_shards_make_the_same_run(train: Cli) -> None:
    assert train(*SHARDS).code == 0
    done = train(*SHARDS, "data.verify=true")  # and goes on with it
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("name", ["train-00001.bin", "valid-00000.bin"])
def test_a_bit_that_flipped_is_found_when_asked_for(train: Cli, folder: Path, name: str) -> None:
    flip(folder / "shards" / name)
    assert train(*SHARDS).code == 0
    done = train(*SHARDS, "data.verify=true")
    assert done.code == 1
    assert done.err == (
        f"error: shards/{name}: the token shards are damaged or incomplete (its SHA-256 differs "
        "from the manifest's); make them again with tisslm tokenize\n"
    )
