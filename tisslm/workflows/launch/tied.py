"""Run by itself: become another program, which the kernel tells if its parent vanishes.

Arguments are the parent's id, the number of a signal, and the program with its arguments. Where the
launcher is killed, its ranks are so asked to save and leave, and do not train on unseen. This is
done between fork and exec, where a process of several threads may not run Python, so by a program.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> None:
    """Ask for the signal, make sure that it has not been missed, and become the program."""
    parent, number, *line = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() == int(parent):
        os.execvp(line[0], line)


if __name__ == "__main__":
    main()
