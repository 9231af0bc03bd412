"""The extension table and the OpenMP probe; everything else is in pyproject.toml."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = Path("tisslm", "_kernels")
MODULES = sorted(path.stem for path in KERNELS.glob("*.pyx"))
DEBUG = os.environ.get("TISSLM_DEBUG") == "1"
COMPILE = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-unused-function",
    "-Wno-discarded-qualifiers",
]
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "binding": True,
    "embedsignature": True,
}


def openmp_flags() -> list[str]:
    """Return the compiler's OpenMP flag, or stop: a trainer on one core is never what is wanted."""
    if os.environ.get("TISSLM_NO_OPENMP") == "1":
        return []
    compiler = os.environ.get("CC", "cc").split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <omp.h>\nint main(void) { return omp_get_num_procs() < 1; }\n")
        command = [*compiler, "-fopenmp", str(source), "-o", str(Path(folder, "probe"))]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            sys.exit(
                f"tisslm: the C compiler {' '.join(compiler)!r} cannot build an OpenMP program. "
                "Install a compiler with OpenMP (Debian: gcc) or name one in CC; "
                "TISSLM_NO_OPENMP=1 builds for a single core instead."
            )
    return ["-fopenmp"]


def extension(name: str, openmp: list[str]) -> Extension:
    """Describe one kernel module; only isa links the C sources, the others reach them by it."""
    sources = [str(KERNELS / f"{name}.pyx")]
    if name == "isa":
        sources.append(str(KERNELS / "c" / "levels.c"))
    return Extension(
        f"tisslm._kernels.{name}",
        sources,
        include_dirs=[str(KERNELS)],
        depends=[str(path) for path in (KERNELS / "c").iterdir()],
        extra_compile_args=[*COMPILE, *openmp],
        extra_link_args=openmp,
    )


def main() -> None:
    """Run setuptools with the extension table."""
    openmp = openmp_flags()
    extensions = [extension(name, openmp) for name in MODULES]
    setup(
        ext_modules=cythonize(extensions, build_dir="build/cython", compiler_directives=DIRECTIVES)
    )


if __name__ == "__main__":
    main()
