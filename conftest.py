"""For all tests of the repository: properties are checked without a time limit for each example.

A machine that is busy must not fail a test, and none is there to measure time.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tisslm", deadline=None)
settings.load_profile("tisslm")
