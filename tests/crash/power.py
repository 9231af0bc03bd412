"""A model of a power failure: what a disk may hold after each operation of a save.

A recording disk does every operation, and keeps what the disk is sure to hold (what was synced)
apart from what it may hold. After each operation it collects the possible states:

- data of a file that was not synced are all there, lost, half there, or zeros;
- names that were not synced (made, renamed, removed) are on the disk in any subset, in order. A
  rename is atomic, and the only operation that may be reordered with anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tisslm.system.durable import Block, Disk, FileRecord

#: A state: the content of a file, or the names in a directory and what they are.
Tree = bytes | tuple[tuple[str, "Tree"], ...]

_ALL_SUBSETS = 4  # pending names up to which every subset is a state
_ALL_COMBINATIONS = 60  # states of a directory's entries up to which all combinations are


@dataclass
class File:
    """A file: what was written last, and whether it was synced."""

    content: bytes = b""
    synced: bool = False

    def states(self) -> list[Tree]:
        """Return what may be found, the whole first."""
        if self.synced or not self.content:
            return [self.content]
        half = self.content[: len(self.content) // 2]
        return [self.content, b"", half, bytes(len(self.content))]


@dataclass
class Directory:
    """A directory: the names that were synced, and the changes since."""

    names: dict[str, File | Directory] = field(default_factory=dict)
    pending: list[tuple[str | None, str | None, File | Directory]] = field(default_factory=list)

    def now(self) -> dict[str, File | Directory]:
        """Return the names that a running system sees."""
        return self._after(self.pending)

    def change(self, old: str | None, new: str | None, what: File | Directory) -> None:
        """Take a name away, give one, or both at once."""
        self.pending.append((old, new, what))

    def sync(self) -> None:
        """Put all changes on the disk."""
        self.names, self.pending = self.now(), []

    def states(self) -> list[Tree]:
        """Return what may be found, the whole first."""
        found: dict[Tree, None] = {}
        for changes in _subsets(self.pending):
            names = sorted(self._after(changes).items())
            for combination in _combinations([node.states() for _, node in names]):
                pairs = zip((name for name, _ in names), combination, strict=True)
                found[tuple(pairs)] = None
        return list(found)

    def _after(
        self, changes: Iterable[tuple[str | None, str | None, File | Directory]]
    ) -> dict[str, File | Directory]:
        names = dict(self.names)
        for old, new, what in changes:
            if old is not None and names.get(old) is what:
                del names[old]
            if new is not None:
                names[new] = what
        return names


def _subsets(pending: Sequence[object]) -> Iterator[list]:
    """Yield subsets in order, all first; of many, those with one missing, and the first so many."""
    n = len(pending)
    if n <= _ALL_SUBSETS:
        sizes = (itertools.combinations(range(n), size) for size in range(n, -1, -1))
        chosen: Iterable[Iterable[int]] = itertools.chain.from_iterable(sizes)
    else:
        chosen = [range(n), *([i for i in range(n) if i != out] for out in range(n))]
        chosen += [range(k) for k in range(n - 1)]
    for indices in chosen:
        yield [pending[i] for i in indices]


def _combinations(states: list[list[Tree]]) -> Iterator[tuple[Tree, ...]]:
    """Yield combinations, all whole first; of many, those in which at most one is not whole."""
    total = 1
    for some in states:
        total *= len(some)
    if total <= _ALL_COMBINATIONS:
        yield from itertools.product(*states)
        return
    whole = tuple(some[0] for some in states)
    yield whole
    for i, some in enumerate(states):
        for state in some[1:]:
            yield (*whole[:i], state, *whole[i + 1 :])


class RecordingDisk(Disk):
    """A disk that collects the states a power failure may leave.

    Parameters
    ----------
    root : Path
        What is there now is taken as synced.
    sync_files, sync_folder : bool
        Whether the fsync of a file, and of the folder of checkpoints, is done; a protocol that
        forgets it must be found out.
    """

    def __init__(self, root: Path, *, sync_files: bool = True, sync_folder: bool = True) -> None:
        self.root, self.sync_files, self.sync_folder = root, sync_files, sync_folder
        self.top = _load(root)
        self.states: dict[Tree, str] = {}
        self.after: set[Tree] = set()  # those that are possible once the save has returned
        self.returned = False
        self._collect("before")

    def _collect(self, label: str) -> None:
        for state in self.top.states():
            self.states.setdefault(state, label)
            if self.returned:
                self.after.add(state)

    def save_returned(self) -> None:
        """From now on, only the new checkpoint will do."""
        self.returned = True
        self._collect("returned")

    def _directory(self, path: Path) -> Directory:
        node: File | Directory = self.top
        for part in path.relative_to(self.root).parts:
            assert isinstance(node, Directory)
            node = node.now()[part]
        assert isinstance(node, Directory)
        return node

    # ------------------------------------------------------------------ operations

    def make_directory(self, path: Path) -> None:
        super().make_directory(path)
        self._directory(path.parent).change(None, path.name, Directory())
        self._collect(f"mkdir {path.name}")

    def write_file(self, path: Path, blocks: Iterable[Block]) -> FileRecord:
        record = super().write_file(path, blocks)
        file = File()
        self._directory(path.parent).change(None, path.name, file)
        self._collect(f"create {path.name}")
        file.content = path.read_bytes()
        self._collect(f"write {path.name}")
        file.synced = self.sync_files
        self._collect(f"fsync {path.name}")
        return record

    def sync_directory(self, path: Path) -> None:
        if path == self.root or self.root in path.parents:  # what is above is not modelled
            directory = self._directory(path)
            is_folder = any(isinstance(node, Directory) for node in directory.now().values())
            if self.sync_folder or not is_folder:
                directory.sync()
            self._collect(f"fsync {path.name}/")

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        parent = self._directory(old.parent)
        parent.change(old.name, new.name, parent.now()[old.name])
        self._collect(f"rename {old.name} {new.name}")

    def _unlink(self, path: Path) -> None:
        super()._unlink(path)
        parent = self._directory(path.parent)
        parent.change(path.name, None, parent.now()[path.name])
        self._collect(f"unlink {path.parent.name}/{path.name}")

    def _remove_directory(self, path: Path) -> None:
        super()._remove_directory(path)
        parent = self._directory(path.parent)
        parent.change(path.name, None, parent.now()[path.name])
        self._collect(f"rmdir {path.name}")


def _load(path: Path) -> Directory:
    found = Directory()
    for entry in path.iterdir():
        node = _load(entry) if entry.is_dir() else File(entry.read_bytes(), synced=True)
        found.names[entry.name] = node
    return found


def restore(state: Tree, path: Path) -> None:
    """Make what the disk holds after the power is back."""
    if isinstance(state, bytes):
        path.write_bytes(state)
        return
    path.mkdir()
    for name, node in state:
        restore(node, path / name)
