"""Imported for its effect: where tisslm is not installed, this clone's, built in place, is found.

What does not live here: anything else.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: an installed one goes first
