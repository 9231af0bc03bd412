"""``python -m tisslm``: the same as the command ``tisslm``."""

from __future__ import annotations

from tisslm.cli.main import main

if __name__ == "__main__":
    main()
