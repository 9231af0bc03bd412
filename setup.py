"""The extension table; flags are in tisslm/ops/building.py, everything else in pyproject.toml."""

import copy
import os
import re
import runpy
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

KERNELS = Path("tisslm", "_kernels")
MODULES = sorted(path.stem for path in KERNELS.glob("*.pyx"))
# How plugins' kernels are compiled, too; there is no package to import yet.
FLAGS = Path("tisslm", "ops", "building.py")
BUILDING = runpy.run_path(str(FLAGS))
COMPILE = list(BUILDING["COMPILE"])
LEVEL_FLAGS = BUILDING["level_flags"]
# Cython hands on what a loop assigns to the code behind it, so that all threads have to meet before
# the first of them may begin. No kernel here reads it there; one of a plugin may. What is assigned
# stays each thread's own by ``firstprivate``, which ``check_private`` looks for.
COMPILE.append("-Dlastprivate(x)=")
CYTHON = Path("build", "cython")
# Every finding ends the process, and the report names lines. -O1, since the levels of every kernel
# take some minutes to optimize further once they are instrumented.
SANITIZE = (
    ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    if os.environ.get("TISSLM_SANITIZE") == "1"
    else []
)
if SANITIZE:
    COMPILE += [*SANITIZE, "-O1", "-g1", "-fno-omit-frame-pointer"]
# What is compiled so must not be taken for the objects of an ordinary build.
OPTIONS = {"build": {"build_base": "build/sanitized"}} if SANITIZE else {}
# What this process may use, which in a container is less than the machine has.
WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# The module that links the levels; the others reach them by it.
LEVELS = "isa"
# What all modules need that have typed memoryviews, compiled once: it was two thirds of each.
SHARED = "tisslm._kernels._memoryviews"


class SideBySide(build_ext):
    """Compile the levels and the modules side by side, as many as there are processors."""

    def finalize_options(self) -> None:
        """Choose how many, unless ``--parallel`` says it."""
        super().finalize_options()
        self.parallel = self.parallel or WORKERS

    def build_extensions(self) -> None:
        """Compile the levels, which take longest, before the modules."""
        isa = next(ext for ext in self.extensions if ext.name.endswith(f".{LEVELS}"))
        sources = sorted((KERNELS / "c" / "levels").glob("*.c"), reverse=True)
        with ThreadPoolExecutor(self.parallel) as pool:
            objects = pool.map(partial(self.build_level, isa), sources)
            isa.extra_objects = [path for paths in objects for path in paths]
        isa.depends += isa.extra_objects
        super().build_extensions()

    def build_level(self, isa: Extension, source: Path) -> list[str]:
        """Compile a level, unless it is newer than all that it is made of; return its object.

        The compiler says what that is: of two levels, only one may include what has changed.
        """
        objects = self.compiler.object_filenames([str(source)], output_dir=self.build_temp)
        made_of = Path(objects[0]).with_suffix(".d")
        known = not self.force and made_of.is_file()
        if not known or newer_group(included(made_of), objects[0], "newer"):
            self.compiler.compile(
                [str(source)],
                output_dir=self.build_temp,
                extra_preargs=["-MMD", "-MF", str(made_of)],
                extra_postargs=[*isa.extra_compile_args, *LEVEL_FLAGS(source.read_text())],
            )
        return objects

    def build_extension(self, ext: Extension) -> None:
        """Compile a module into a folder of its own: several compile c/regions.c, at one time."""
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        super(SideBySide, own).build_extension(ext)


def included(rule: Path) -> list[str]:
    """Read which files an object is made of, from the rule that the compiler wrote for make."""
    return rule.read_text().partition(":")[2].replace("\\\n", " ").split()


def extension(name: str, openmp: list[str]) -> Extension:
    """Describe one kernel module.

    Each links the stamps of its own parallel regions, by which the profiler sees the threads.
    """
    sources = [str(KERNELS / f"{name}.pyx"), str(KERNELS / "c" / "regions.c")]
    depends = [str(KERNELS / "c" / file) for file in ("tiss.h", "omp_or_serial.h")]
    if name == LEVELS:
        sources.append(str(KERNELS / "c" / "levels.c"))
        depends.append(str(KERNELS / "c" / "levels.h"))
    return Extension(
        f"tisslm._kernels.{name}",
        sources,
        include_dirs=[str(KERNELS)],
        depends=depends,
        extra_compile_args=[*COMPILE, *openmp],
        extra_link_args=[*openmp, *SANITIZE, *(BUILDING["WATCHED"] if openmp else [])],
    )


def write_view() -> None:
    """Tell Cython what tiss.h says; a file that says it already stays as old as it is."""
    view, made = (
        CYTHON / "tiss.pxi",
        BUILDING["cython_view"]((KERNELS / "c" / "tiss.h").read_text()),
    )
    if not view.is_file() or view.read_text() != made:
        CYTHON.mkdir(parents=True, exist_ok=True)
        view.write_text(made)


def check_private(modules: list[Extension]) -> list[Extension]:
    """Return modules whose loops have all that they assign as each thread's own.

    Without ``lastprivate``, what is not ``firstprivate`` too would be shared, and raced for.
    """
    for source in (name for module in modules for name in module.sources if name.endswith(".c")):
        for line in re.findall("#pragma omp .*", Path(source).read_text("utf-8")):
            own = {f"firstprivate({name})" for name in re.findall(r"lastprivate\((\w+)\)", line)}
            if not all(clause in line for clause in own):
                raise SystemExit(
                    f"setup.py: {source}: expected firstprivate beside each lastprivate, got "
                    f"{line}; build with another version of Cython, or leave -Dlastprivate out"
                )
    return modules


def main() -> None:
    """Run setuptools with the extension table."""
    openmp = BUILDING["openmp_flags"]()
    write_view()
    shared = Extension(SHARED, [str(CYTHON / "_memoryviews.c")], extra_compile_args=COMPILE)
    setup(
        ext_modules=check_private(
            cythonize(
                [*(extension(name, openmp) for name in MODULES), shared],
                build_dir=str(CYTHON),
                shared_utility_qualified_name=SHARED,
                compiler_directives=BUILDING["DIRECTIVES"],
                include_path=[str(CYTHON)],
                nthreads=WORKERS,
                # Directives are part of every module, and Cython compares it with sources alone.
                force=any(
                    newer_group([str(FLAGS)], str(made)) for made in (CYTHON / KERNELS).glob("*.c")
                ),
            )
        ),
        cmdclass={"build_ext": SideBySide},
        options=OPTIONS,
    )


if __name__ == "__main__":
    main()
