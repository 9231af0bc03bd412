"""The build's own checks: the C compiler, and a virtual environment that failed half-way."""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tisslm.ops.building import level_flags

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "tisslm" / "_kernels"
NONE = (
    "tisslm: the C compiler 'no-such-cc' cannot build an OpenMP program. Install a compiler with "
    "OpenMP (Debian: gcc; for clang, libomp-dev) or name one in CC; TISSLM_NO_OPENMP=1 builds for "
    "a single core instead.\n"
)
#: Stands for `python3` of a machine without ensurepip until a file `mended` is there.
PYTHON = """\
#!/bin/sh
echo "$@" >> calls
mkdir -p venv/bin
if [ -e mended ]; then code=0; else code=1; fi
printf '#!/bin/sh\\nexit %s\\n' $code > venv/bin/python
chmod +x venv/bin/python
exit $code
"""


def outside_make() -> dict[str, str]:
    """Return the environment without what a surrounding `make test` hands on."""
    ours = ("MAKE", "MFLAGS", "PEER_PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def setup(
    folder: Path, *, modules: str = "[]", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run setup.py as far as the compiler goes: setuptools does nothing, and Cython says these."""
    for name, text in {
        "Cython/__init__.py": "",
        "Cython/Build.py": f"def cythonize(*args, **options): return {modules}",
        "setuptools/__init__.py": "Extension = setup = lambda *args, **options: None",
        "setuptools/modified.py": "def newer_group(*args): ...",
        "setuptools/command/__init__.py": "",
        "setuptools/command/build_ext.py": "class build_ext: ...",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return subprocess.run(
        [sys.executable, "setup.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder), "TISSLM_NO_OPENMP": "0", **environment},
    )


@pytest.mark.parametrize(("clauses", "code"), [("firstprivate(n) ", 0), ("", 1)])
def test_what_a_loop_assigns_is_each_threads_own(tmp_path: Path, clauses: str, code: int) -> None:
    source = tmp_path / "loop.c"
    source.write_text(f"#pragma omp for nowait {clauses}lastprivate(n) schedule(static)\n")
    modules = f"[type('', (), {{'sources': [{str(source)!r}]}})]"
    done = setup(tmp_path, modules=modules, TISSLM_NO_OPENMP="1")
    assert done.returncode == code
    assert ("expected firstprivate beside each lastprivate" in done.stderr) == bool(code)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("serial", ["0", "1"])
def test_a_compiler_with_openmp_is_taken(tmp_path: Path, serial: str) -> None:
    assert setup(tmp_path, CC="gcc", TISSLM_NO_OPENMP=serial).returncode == 0


def test_a_compiler_without_openmp_is_refused_unless_none_is_wanted(tmp_path: Path) -> None:
    done = setup(tmp_path, CC="no-such-cc")
    assert (done.returncode, done.stderr) == (1, NONE)
    assert setup(tmp_path, CC="no-such-cc", TISSLM_NO_OPENMP="1").returncode == 0


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_flags_of_a_level_are_left_out_where_the_compiler_does_not_know_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CC", "gcc")
    assert level_flags("/* A level.\n * flags: -O1 -fwrapv */\n") == ["-O1", "-fwrapv"]
    assert level_flags("/* A level.\n * flags: -march=abacus */\n") == []
    assert level_flags("/* No flags. */\n") == []


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="asks for levels of x86-64")
def test_a_level_is_made_of_what_it_includes_and_of_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So a change of GELU's tables, which only AVX-512 looks up, compiles no other level again."""
    monkeypatch.setenv("CC", "gcc")
    having = set()
    for source in (KERNELS / "c" / "levels").glob("*.c"):
        command = ["gcc", *level_flags(source.read_text()), "-MM", str(source)]
        made_of = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if "gelu_tables.inc" in made_of:
            having.add(source.stem)
    assert having == {"avx512", "avx512_bf16"}


def test_a_level_is_compiled_again_where_something_it_includes_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    build_ext = runpy.run_path("setup.py")["SideBySide"]
    sources = [tmp_path / "avx2.c", tmp_path / "neon.c"]
    own = {source: tmp_path / f"{source.stem}.inc" for source in sources}
    for file in (*sources, *own.values()):
        file.write_text("/* Nothing. */\n")
        os.utime(file, (1, 1))
    compiled: list[str] = []

    class Compiler:
        def object_filenames(self, sources: list[str], output_dir: str) -> list[str]:
            return [str(Path(source).with_suffix(".o")) for source in sources]

        def compile(self, sources: list[str], extra_preargs: list[str], **rest: object) -> None:
            source = Path(sources[0])
            compiled.append(source.stem)
            Path(extra_preargs[-1]).write_text(f"x.o: {source} \\\n {own[source]}\n")
            source.with_suffix(".o").touch()

    command = SimpleNamespace(compiler=Compiler(), build_temp=str(tmp_path), force=False)

    def build() -> list[str]:
        compiled.clear()
        for source in sources:
            isa = SimpleNamespace(extra_compile_args=[])
            assert build_ext.build_level(command, isa, source) == [str(source.with_suffix(".o"))]
        return list(compiled)

    assert build() == ["avx2", "neon"]
    assert build() == []
    later = time.time() + 60
    os.utime(own[sources[1]], (later, later))
    assert build() == ["neon"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_virtual_environment_that_failed_is_made_again(tmp_path: Path) -> None:
    python, venv = tmp_path / "python", tmp_path / "venv"
    python.write_text(PYTHON)
    python.chmod(0o755)
    # all paths are relative: make takes none with a space in it
    command = ["make", "-C", str(tmp_path), "-f", str(ROOT / "Makefile")]
    command += ["VENV=venv", "PYTHON=./python", "venv/ready"]

    def make() -> int:
        done = subprocess.run(command, capture_output=True, check=False, env=outside_make())
        return done.returncode

    assert make() != 0
    assert (venv / "bin" / "python").exists()
    assert not (venv / "ready").exists()
    (tmp_path / "mended").touch()
    assert make() == 0
    assert (venv / "ready").exists()
    assert make() == 0
    assert (tmp_path / "calls").read_text().count("-m venv") == 2


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_benchmark_compares_with_the_interpreter_that_is_named() -> None:
    def recipe(*variables: str) -> str:
        command = ["make", "-n", "-C", str(ROOT), "bench", *variables]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=outside_make()
        ).stdout

    assert "--peer-python" not in recipe()
    wanted = "--precision fp32 --peer-python /torch/bin/python\n"
    with_peer = recipe("PEER_PYTHON=/torch/bin/python")
    assert wanted in with_peer
    assert "memory.py --size char-tiny --peer-python /torch/bin/python\n" in with_peer


def test_what_make_test_installs_checks_the_floors() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    test = next(line for line in text.splitlines() if line.startswith("test = "))
    assert "import-linter" in test


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_lint_runs_every_linter_and_no_target_is_given_twice() -> None:
    command = ["make", "-n", "-C", str(ROOT), "VENV=nowhere", "lint"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=outside_make())
    assert done.stderr == ""  # such as "overriding recipe for target"
    for linter in ("ruff check", "ruff format --check", "mypy", "cython-lint", "lint-imports"):
        assert linter in done.stdout, linter
