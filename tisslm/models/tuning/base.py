"""The model that adapters are beside: where it was, and what its files were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tisslm.errors import CheckpointError
from tisslm.system.safe_files import CHECKPOINT, RegularFile, show

__all__ = ["Base", "base_of"]

#: Files of a folder that are no part of a model.
_OTHERS = frozenset({"optimizer.safetensors", "trainer.safetensors"})


@dataclass(frozen=True)
class Base:
    """A model on the disk.

    Attributes
    ----------
    path : str
        Absolute.
    files : mapping of str to str
        The SHA-256 of each file that is a part of it, by name.
    """

    path: str
    files: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"path": self.path, "files": dict(self.files)}

    @classmethod
    def load(cls, value: object, where: Path) -> Base:
        """Take back what ``as_json`` returned.

        Raises
        ------
        CheckpointError
            If it is something else.
        """
        path = value.get("path") if isinstance(value, Mapping) else None
        files = value.get("files") if isinstance(value, Mapping) else None
        if not isinstance(path, str) or not isinstance(files, Mapping) or not files:
            raise CheckpointError(
                f"{where}: expected path and files of the model that adapters are beside, got "
                f"{show(value)}; the checkpoint is damaged, use an earlier one"
            )
        return cls(path, {str(name): str(digest) for name, digest in files.items()})

    def check(self, now: Base, where: Path) -> None:
        """Refuse another base than this one.

        Parameters
        ----------
        now : Base
            Of the model that is there.
        where : Path
            Whose base this is, for messages.

        Raises
        ------
        CheckpointError
            If a file is missing, superfluous or was changed.
        """
        for name in sorted({*self.files, *now.files}):
            then, digest = self.files.get(name), now.files.get(name)
            if then != digest:
                said = [f"SHA-256 {d[:12]}..." if d else "none" for d in (then, digest)]
                mend = "" if self.path == now.path else f", which was {self.path}"
                raise CheckpointError(
                    f"{where}: its adapters are for another model: expected {name} of {said[0]} in "
                    f"{now.path}, got {said[1]}; give the model that they were trained for{mend}"
                )


def base_of(path: str | Path) -> Base:
    """Return what a model on the disk is: a GGUF file, or a folder.

    Raises
    ------
    CheckpointError
        If there is none, or a file cannot be read.
    """
    path = Path(path).absolute()
    if path.is_file():
        files = [path]
    else:
        names = ("config.json", "adapter_config.json", "base.json")
        found = [path / name for name in names if (path / name).is_file()]
        files = found + [f for f in sorted(path.glob("*.safetensors")) if f.name not in _OTHERS]
    if not files:
        raise CheckpointError(
            f"{path}: expected the model that adapters are beside, got none; give its path as "
            "model.from"
        )
    digests = {}
    for one in files:
        with RegularFile(one, CHECKPOINT, follow=True) as file:
            digests[one.name] = file.sha256()
    return Base(str(path), digests)
