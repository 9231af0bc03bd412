"""What starts the tests does not decide what they see: the conftest of the repository."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Says what this process, and one that it starts, does about signals, new files and warnings.
LOOK = """\
import os, resource, runpy, signal, sys
if "{conftest}":
    runpy.run_path("{conftest}")
print(sorted(s.name for s in signal.valid_signals() if signal.getsignal(s) is signal.SIG_IGN))
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
print(sorted(s.name for s in signal.pthread_sigmask(signal.SIG_BLOCK, ())))
print(oct(os.umask(0)), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print("PYTHONWARNINGS" in os.environ)
print(sys.dont_write_bytecode, "PYTHONDONTWRITEBYTECODE" in os.environ)
print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("OPENBLAS_NUM_THREADS"))
"""
#: As a shell in the background does, `nohup`, a careless daemon, and a careful administrator.
HARSH = """\
import os, resource, signal, sys
for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CHLD"):
    signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
os.umask(0o077)
resource.setrlimit(resource.RLIMIT_NOFILE, (250, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.environ["PYTHONWARNINGS"] = "ignore"
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
os.environ |= {"OMP_WAIT_POLICY": "active", "OPENBLAS_NUM_THREADS": "7"}
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""


def look(*before: str, conftest: str) -> list[str]:
    command = [sys.executable, *before, LOOK.format(conftest=conftest)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_signals_files_and_warnings_are_the_same_whoever_starts_the_tests():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    n_files = 1024 if most == resource.RLIM_INFINITY else min(1024, most)
    usual = look("-c", conftest="")
    files, signals = f"0o22 {n_files}", "['SIGPIPE', 'SIGXFSZ']"
    assert usual == [signals, "True", "[]", files, "False", "False False", "passive 1"]
    assert look("-c", HARSH, conftest="") != usual
    assert look("-c", HARSH, conftest=str(ROOT / "conftest.py")) == usual
