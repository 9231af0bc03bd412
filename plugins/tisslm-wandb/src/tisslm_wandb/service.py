"""The background process of W&B: started for the first sink, ended after the last."""

from __future__ import annotations

import os
import sys
import tempfile
from types import ModuleType

__all__ = ["Service"]

#: Where that process would keep logs of its own otherwise is ``~/.cache/wandb``.
CACHE = "WANDB_CACHE_DIR"


class Service:
    """The module wandb and its process, which other code of this process may also use."""

    def __init__(self) -> None:
        self._users = 0
        self._ours = False
        self._cache: tempfile.TemporaryDirectory[str] | None = None

    def load(self) -> ModuleType:
        """Count a user, and import wandb so that it reports nothing about itself."""
        self._users += 1
        if "wandb" not in sys.modules:
            self._ours = True
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        if self._ours and self._cache is None and CACHE not in os.environ:
            self._cache = tempfile.TemporaryDirectory(prefix="tisslm-wandb-")
            os.environ[CACHE] = self._cache.name
        import wandb

        return wandb

    def leave(self) -> None:
        """End the process and its threads after the last user, unless other code has a run."""
        self._users -= 1
        import wandb

        if self._users or not self._ours or wandb.run is not None:
            return
        wandb.teardown()
        if self._cache is not None:
            os.environ.pop(CACHE, None)
            self._cache.cleanup()
            self._cache = None
