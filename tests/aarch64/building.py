"""The package, compiled for AArch64 on a machine of another architecture.

``setup.py`` does it. That it builds for another Python it learns from that one's own account of how
it was built, which stands in a module whose name is a variable of ``sysconfig``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from aarch64.machine import ROOT, VERSION

ACCOUNT = "_sysconfigdata__aarch64-linux-gnu"


def build(folder: Path, compiler: str = "aarch64-linux-gnu-gcc") -> Path:
    """Compile what has changed, into ``build/aarch64``; return the folder that has the package."""
    into = ROOT / "build" / "aarch64"
    host, lib = into / "host", into / "lib"
    host.mkdir(parents=True, exist_ok=True)
    root = folder.resolve() / "root" / "usr"
    shutil.copy2(root / "lib" / f"python{VERSION}" / f"{ACCOUNT}.py", host)
    include = root / "include"
    cc = f"{compiler} -I{include / f'python{VERSION}'} -idirafter {include}"
    environment = {
        "CC": cc,
        "LDSHARED": f"{compiler} -shared",
        "PYTHONPATH": str(host),
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
        "_PYTHON_SYSCONFIGDATA_NAME": ACCOUNT,
    }
    command = [sys.executable, "setup.py", "--quiet", "build"]
    command += ["--build-base", str(into), "--build-lib", str(lib)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True)
    return lib
