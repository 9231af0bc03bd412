"""For all tests of the repository: no time limits, and signals as a terminal has them.

A machine that is busy must not fail a test, and none is there to measure time. A shell that starts
the tests in the background makes them, and every process that they start, deaf to SIGINT.
"""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("tisslm", deadline=None)
settings.load_profile("tisslm")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
