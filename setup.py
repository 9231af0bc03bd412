"""The extension table and the OpenMP probe; everything else is in pyproject.toml."""

import os
import subprocess
import sys
import sysconfig
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
# Every finding ends the process, and the report names lines. -O1, since the four levels of every
# kernel take some minutes to optimize further once they are instrumented.
SANITIZE = (
    ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    if os.environ.get("TISSLM_SANITIZE") == "1"
    else []
)
if SANITIZE:
    COMPILE += [*SANITIZE, "-O1", "-g1", "-fno-omit-frame-pointer"]
# What is compiled so must not be taken for the objects of an ordinary build.
OPTIONS = {"build": {"build_base": "build/sanitized"}} if SANITIZE else {}
# Calls of these go to c/regions.c first.
WATCHED = ["-Wl,--wrap=GOMP_parallel", "-Wl,--wrap=GOMP_barrier"]
# <omp.h> and OpenMP's flag must work; clang has no "#pragma GCC target", by which c/levels.c sets
# the instruction-set levels.
PROBE = """\
#if defined(__clang__) && defined(__x86_64__)
#error CLANG_ON_X86
#endif
#ifdef _OPENMP
#include <omp.h>
#endif
int main(void) { return 0; }
"""
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
    flags = [] if os.environ.get("TISSLM_NO_OPENMP") == "1" else ["-fopenmp"]
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE)
        command = [*compiler, *flags, str(source), "-o", str(Path(folder, "probe"))]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            name = " ".join(compiler)
            if b"CLANG_ON_X86" in (getattr(error, "stderr", None) or b""):
                sys.exit(
                    f"tisslm: the C compiler {name!r} is clang, which cannot build the "
                    "instruction-set levels on x86 yet; install GCC and set CC=gcc."
                )
            if flags:
                sys.exit(
                    f"tisslm: the C compiler {name!r} cannot build an OpenMP program. "
                    "Install a compiler with OpenMP (Debian: gcc) or name one in CC; "
                    "TISSLM_NO_OPENMP=1 builds for a single core instead."
                )
    return flags


def extension(name: str, openmp: list[str]) -> Extension:
    """Describe one kernel module; only isa links the levels, the others reach them by it.

    Each links the stamps of its own parallel regions, by which the profiler sees the threads.
    """
    sources = [str(KERNELS / f"{name}.pyx"), str(KERNELS / "c" / "regions.c")]
    depends = [str(path) for path in (KERNELS / "c").glob("*.h")]
    if name == "isa":
        sources.append(str(KERNELS / "c" / "levels.c"))
        depends += [str(path) for path in (KERNELS / "c").glob("*.inc")]
    return Extension(
        f"tisslm._kernels.{name}",
        sources,
        include_dirs=[str(KERNELS)],
        depends=depends,
        extra_compile_args=[*COMPILE, *openmp],
        extra_link_args=[*openmp, *SANITIZE, *(WATCHED if openmp else [])],
    )


def main() -> None:
    """Run setuptools with the extension table."""
    openmp = openmp_flags()
    extensions = [extension(name, openmp) for name in MODULES]
    setup(
        ext_modules=cythonize(extensions, build_dir="build/cython", compiler_directives=DIRECTIVES),
        options=OPTIONS,
    )


if __name__ == "__main__":
    main()
