"""What the tests share: a small file of ranks, and the package as an installed plugin."""

from __future__ import annotations

import base64
import importlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tisslm import ops

PACKAGE = Path(__file__).parents[1]

TEXT = "".join(
    f"{i} green bottles hang on the wall, naïve Übergröße, 東京 🙂, and {i} of them fall.\n"
    for i in range(60)
)


def merge(piece: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """Join each occurrence of a pair."""
    merged: list[bytes] = []
    for token in piece:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return merged


def train_ranks(text: str, n_merges: int) -> dict[bytes, int]:
    """Learn byte pairs in the plainest way: join the most frequent pair, again and again."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    pieces = [[bytes([b]) for b in piece.encode()] for piece in re.findall(r" ?\w+|\W", text)]
    for rank in range(256, 256 + n_merges):
        pairs = Counter(pair for piece in pieces for pair in pairwise(piece))
        best = max(sorted(pairs), key=pairs.__getitem__)
        ranks[best[0] + best[1]] = rank
        pieces = [merge(piece, best) for piece in pieces]
    return ranks


def lines(ranks: dict[bytes, int]) -> str:
    """Write ranks as a ``.tiktoken`` file has them."""
    return "".join(f"{base64.b64encode(t).decode()} {r}\n" for t, r in ranks.items())


@pytest.fixture(scope="session")
def text() -> str:
    """A text in several scripts, whose file the ranks are learned from."""
    return TEXT


@pytest.fixture(scope="session")
def ranks() -> dict[bytes, int]:
    """256 bytes and 60 pairs."""
    return train_ranks(TEXT[:1500], 60)


@pytest.fixture
def file(tmp_path: Path, ranks: dict[bytes, int]) -> Path:
    """A ``.tiktoken`` file."""
    path = tmp_path / "small.tiktoken"
    path.write_text(lines(ranks), encoding="ascii")
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package an installed plugin, by the entry point that its project file has."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    fields = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(fields)
    points = "".join(f"{k} = {v}\n" for k, v in project["entry-points"]["tisslm"].items())
    (info / "entry_points.txt").write_text(f"[tisslm]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run kernels on one thread: small models are fastest so."""
    ops.set_threads(1)
    yield
    ops.set_threads(None)
