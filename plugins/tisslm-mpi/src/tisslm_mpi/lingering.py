"""End a launcher that outlives its job: Open MPI's, where it has lost the daemon of a machine.

``mpirun`` waits for its daemons, and for one behind a cut link as long as TCP tries to reach it,
whatever becomes of its ranks; and that daemon waits for it. A rank leaves this program behind when
it ends a job for a stall, for whichever of the two has started it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

__all__ = ["end_lingering_launcher"]

#: Seconds that it has to end by itself, which takes one or two.
GRACE = 5.0

#: Names of processes that start one job, and end with it; not of daemons that serve several.
LAUNCHERS = ("prterun", "mpirun", "mpiexec", "orterun")

#: What a daemon is told before the name of who has started it, which begins with such a name.
STARTER = "ess_base_nspace"


def end_lingering_launcher(grace: float = GRACE) -> None:
    """Have this process's parent killed after some seconds, if it is Open MPI's for one job."""
    with contextlib.suppress(OSError):  # it is gone, or not ours, or the kernel is an old one
        handle = os.pidfd_open(parent := os.getppid())
        if _starts_one_job(Path(f"/proc/{parent}")):
            subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(handle), str(grace)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # whose end the launcher waits for
                start_new_session=True,
                pass_fds=[handle],
            )
        os.close(handle)


def _starts_one_job(process: Path) -> bool:
    name = (process / "comm").read_text().strip()
    words = (process / "cmdline").read_text().split("\0")
    starter = words[words.index(STARTER) + 1] if name == "prted" and STARTER in words else name
    return starter.partition("-")[0] in LAUNCHERS


def main() -> None:
    """Wait for the end of a process, and bring it about."""
    handle, grace = int(sys.argv[1]), float(sys.argv[2])
    if not select.select([handle], [], [], grace)[0]:
        signal.pidfd_send_signal(handle, signal.SIGKILL)


if __name__ == "__main__":
    main()
