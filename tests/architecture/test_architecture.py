"""The floors and walls of ARCHITECTURE.md, kept true."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tisslm.registry import builtins

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tisslm"
KERNELS = PACKAGE / "_kernels"


def kernel_sources() -> list[Path]:
    return [p for p in KERNELS.rglob("*") if p.suffix in {".pyx", ".pxd", ".c", ".h", ".inc"}]


def test_modules_import_only_lower_floors():
    importlinter = pytest.importorskip("importlinter.api", reason="needs import-linter")
    assert importlinter
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("what", "home"),
    [
        ("scipy.linalg", {"blas.pyx"}),
        ("omp.h", {"omp_or_serial.h", "threads.pyx"}),
        ("GOMP_", {"regions.c"}),
        ("(?m)GCC target|^ \\* flags: ", {p.name for p in (KERNELS / "c" / "levels").iterdir()}),
        ("immintrin|arm_neon|cpuid.h|auxv.h", {"levels.h", "levels.c"}),
    ],
)
def test_each_door_is_in_one_place(what, home):
    assert {p.name for p in kernel_sources() if re.search(what, p.read_text())} <= home


def test_only_ops_reaches_the_kernels():
    """Imports by name count: ``tisslm doctor`` alone looks at what was built."""
    reaching = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"tisslm\.(_kernels|ops\.reference)\b(?!`)", path.read_text())
    }
    inside = {path for path in reaching if path.startswith(("ops/", "_kernels/"))}
    assert "ops/runtime.py" in inside
    assert reaching - inside <= {"cli/doctor/machine.py"}


def test_only_who_brings_values_reaches_past_their_door():
    """Values may be on their way from other ranks; ``data`` waits for them, ``data_arena`` not."""
    reaching = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"\bdata_arena\b|\._values\b", path.read_text())
    }
    homes = {"memory/awaited.py", "memory/parameters.py", "training/ranks/shared.py"}
    assert reaching == homes | {"testing/models/brought.py"}


def test_kernels_never_allocate_nor_raise():
    for path in KERNELS.glob("*.pyx"):
        text = path.read_text()
        assert not re.search(r"\b(malloc|calloc|np\.|numpy)\b", text), path
        if path.name not in {"isa.pyx", "arrays.pyx"}:  # a level, or a type, that is not there
            assert "raise " not in text, path
    for path in (p for p in (KERNELS / "c").rglob("*") if p.is_file()):
        assert not re.search(r"\b(malloc|calloc)\s*\(", path.read_text()), path


def test_every_parallel_loop_says_how_many_threads():
    for path in KERNELS.glob("*.pyx"):
        text = path.read_text()
        for loop in re.finditer(r"in prange\((?:[^()]|\([^()]*(?:\([^()]*\)[^()]*)*\))*\)", text):
            assert "num_threads=n_threads" in loop[0], (path, loop[0])
        assert len(re.findall(r"in prange\(", text)) == len(re.findall("num_threads=n_thr", text))


def test_every_kernel_with_threads_can_be_watched():
    from tisslm.ops import runtime

    parallel = {p.stem for p in KERNELS.glob("*.pyx") if "in prange(" in p.read_text()}
    assert {*runtime.PARALLEL} == parallel - {"peak"}  # which measures the machine, and is no op


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, tisslm; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["numpy", "scipy", "pluggy", "pydantic", "typer", "rich", "tokenizers", "psutil"]
    done = subprocess.run(
        [sys.executable, "-c", code, *heavy], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["tisslm", "tisslm.optim"])
def test_public_names_are_all_there(name):
    package = import_module(name)
    assert set(package.__all__) <= set(dir(package))
    for public in package.__all__:
        assert getattr(package, public) is not None
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_optim_hands_on_every_built_in_optimizer_scheduler_and_loss():
    from tisslm import optim
    from tisslm.optim import losses, optimizers, schedulers

    rooms = (losses, optimizers, schedulers)
    assert sorted(optim.__all__) == sorted(name for room in rooms for name in room.__all__)


@pytest.mark.parametrize(
    "room",
    [
        "optim.optimizers",
        "optim.schedulers",
        "optim.losses",
        "tracking.sinks",
        "tracking.monitors",
        "training.ranks.communicators",
    ],
)
def test_every_file_of_a_kind_has_a_name_in_configurations_and_a_public_one(room):
    """A class that is forgotten in ``builtins.py``, or where it is exported, is named here."""
    package = import_module(f"tisslm.{room}")
    files = {path.stem for path in Path(package.__path__[0]).glob("[!_]*.py")}
    entries = getattr(builtins, f"tisslm_{room.rpartition('.')[2]}")()
    targets = [str(entry.target).removeprefix(f"{package.__name__}.") for entry in entries]
    assert {target.partition(":")[0] for target in targets} == files
    if room.startswith("optim."):
        assert {target.partition(":")[2] for target in targets} == set(package.__all__)


#: Ways to run what a file says. ``np.load`` refuses pickles unless it is told not to.
CODE_FROM_FILES = re.compile(
    r"\b(pickle|cPickle|dill|joblib|marshal|shelve)\b(?=\s*(\.|import\b))"
    r"|\bimport\s+(pickle|cPickle|dill|joblib|marshal|shelve|runpy)\b"
    r"|allow_pickle\s*=\s*True|\byaml\.(unsafe_)?load\b|\btorch\.load\b"
    r"|(?<![.\w\"'`])(eval|exec|execfile|__import__)\("
)


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from pickle import loads", "pickle.loads(x)", "import marshal", "eval(x)",
     "np.load(p, allow_pickle=True)", "yaml.load(f)", "  exec(text)", "shelve.open(p)",
     "x = __import__(name)", "import runpy"],
)  # fmt: skip
def test_a_way_to_run_a_file_would_be_seen(line):
    assert CODE_FROM_FILES.search(line)


def test_nothing_is_unpickled_or_evaluated():
    plugins = [p for p in (ROOT / "plugins").rglob("*.py") if "tests" not in p.parts]
    sources = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx"), *plugins]
    sources += [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    assert len(sources) > 150
    for path in sources:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not CODE_FROM_FILES.search(line), f"{path}:{number}: {line}"


def test_files_stay_readable():
    for path in [*PACKAGE.rglob("*.py"), *KERNELS.glob("*.pyx")]:
        assert len(path.read_text().splitlines()) <= 550, path
