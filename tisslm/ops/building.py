"""How kernels are compiled: TissLM's own, and those of a plugin, from its ``setup.py``.

Imports nothing of TissLM: its own ``setup.py`` reads this file before there is a package.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "COMPILE",
    "DIRECTIVES",
    "WATCHED",
    "cython_view",
    "kernel_extensions",
    "level_flags",
    "openmp_flags",
]

DEBUG = os.environ.get("TISSLM_DEBUG") == "1"
COMPILE = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-unused-function",
    "-Wno-discarded-qualifiers",
    # clang's word for the same, and what each of the two is to pass over that the other knows
    "-Wno-incompatible-pointer-types-discards-qualifiers",
    "-Wno-unknown-warning-option",
    "-Wno-ignored-optimization-argument",
    # Python's own flags ask for tables for a debugger, which take a third of the time.
    "-g" if DEBUG else "-g0",
]
#: Calls of these go to c/regions.c first.
WATCHED = [
    "-Wl,--wrap=GOMP_parallel",
    "-Wl,--wrap=GOMP_barrier",
    "-Wl,--wrap=GOMP_loop_nonmonotonic_dynamic_start",
    "-Wl,--wrap=GOMP_loop_nonmonotonic_dynamic_next",
]
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "binding": True,
    "embedsignature": True,
    # None is no array: of what may be left out, a kernel says `or None`.
    "allow_none_for_extension_args": False,
}
# <omp.h> and OpenMP's flag must work.
PROBE = """\
#ifdef _OPENMP
#include <omp.h>
#endif
int main(void) { return 0; }
"""


_CONSTANT = re.compile(r"^#define (TISS_\w+) [\d(]", re.MULTILINE)
_LIST = re.compile(r"^#define (\w+_FUNCTIONS)\([^)]*\)(.*)$", re.MULTILINE)
_FUNCTION = re.compile(r"F\((?:T, )?(\w+), (\w+), (\([^()]*\))\)")
_STRUCT = re.compile(r"typedef struct \{(.*?)\} (\w+);", re.DOTALL)
_FLAGS = re.compile(r"^ \* flags: (.*) \*/$", re.MULTILINE)
_MEMBERS = re.compile(r"(\w+_FUNCTIONS)\([^)]*\)")


def cython_view(header: str) -> str:
    """Write what Cython has to be told of ``tiss.h``, which it cannot read: structs and constants.

    Parameters
    ----------
    header : str
        The text of ``tiss.h``. Its lists of functions become members of the structs that name them.

    Returns
    -------
    str
        Declarations for ``isa.pxd`` to include.
    """
    text = re.sub(r"/\*.*?\*/", "", header.replace("\\\n", " "), flags=re.DOTALL)
    members = {
        name: "".join(f"{result} (*{f}){given};" for result, f, given in _FUNCTION.findall(listed))
        for name, listed in _LIST.findall(text)
    }
    lines = ["from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t", ""]
    lines += ['cdef extern from "c/tiss.h":', "    enum:"]
    lines += [f"        {name}" for name in _CONSTANT.findall(text)]
    for body, struct in _STRUCT.findall(text):
        lines += ["", f"    ctypedef struct {struct}:"]
        declared = _MEMBERS.sub(lambda found: members[found[1]], body).split(";")
        for declaration in filter(None, (" ".join(one.split()) for one in declared)):
            called = " noexcept nogil" if "(*" in declaration else ""
            lines.append(f"        {declaration}{called}")
    return "\n".join(lines) + "\n"


def _compiler() -> list[str]:
    return (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()


def level_flags(source: str) -> list[str]:
    """Return the flags that a file of ``c/levels`` names, none if the compiler does not know them.

    Without them such a file makes no level: it is of another architecture, or the compiler is old.

    Parameters
    ----------
    source : str
        The text of the file.
    """
    named = _FLAGS.search(source)
    flags = named[1].split() if named else []
    command = [*_compiler(), *flags, "-fsyntax-only", "-x", "c", os.devnull]
    return (
        flags if subprocess.run(command, capture_output=True, check=False).returncode == 0 else []
    )


def openmp_flags() -> list[str]:
    """Return the compiler's OpenMP flag, or stop: a trainer on one core is never what is wanted."""
    flags = [] if os.environ.get("TISSLM_NO_OPENMP") == "1" else ["-fopenmp"]
    compiler = _compiler()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE)
        command = [*compiler, *flags, str(source), "-o", str(Path(folder, "probe"))]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            name = " ".join(compiler)
            if flags:
                sys.exit(
                    f"tisslm: the C compiler {name!r} cannot build an OpenMP program. "
                    "Install a compiler with OpenMP (Debian: gcc; for clang, libomp-dev) or name "
                    "one in CC; TISSLM_NO_OPENMP=1 builds for a single core instead."
                )
    return flags


def kernel_extensions(modules: Mapping[str, Sequence[str]]) -> Any:
    """Describe the compiled modules of a plugin, for the ``ext_modules`` of its ``setup.py``.

    Flags are those of TissLM's own kernels, without any level of an instruction set: what is built
    runs on every processor of the architecture. A product and a sum are not fused, so that a kernel
    may be compared with its twin bit for bit.

    Parameters
    ----------
    modules : mapping of str to sequence of str
        Sources by the module's dotted name, such as
        ``{"tisslm_lion._update": ["src/tisslm_lion/_update.pyx"]}``.

    Returns
    -------
    list of setuptools.Extension
    """
    from Cython.Build import cythonize
    from setuptools import Extension

    root, openmp = Path(__file__).resolve().parents[2], openmp_flags()
    headers = root / "tisslm" / "_kernels"
    extensions = [
        Extension(
            name,
            list(sources),
            include_dirs=[str(headers)],
            depends=[str(headers / "c" / file) for file in ("plugin.h", "regions.c")],
            extra_compile_args=[*COMPILE, "-ffp-contract=off", *openmp],
            extra_link_args=[*openmp, *(WATCHED if openmp else [])],
        )
        for name, sources in modules.items()
    ]
    # The folder that tisslm lies in, since an editable install is not on the module path.
    return cythonize(  # type: ignore[no-untyped-call]
        extensions,
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
        include_path=[str(root)],
    )
