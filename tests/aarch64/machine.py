"""The emulated processor and its Python: which tools they take, and where these come from."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Of Debian: the interpreter, its headers, and what wheels and kernels are linked with.
DEBIAN = [f"python{VERSION}-minimal", f"libpython{VERSION}-stdlib", f"libpython{VERSION}-dev"]
DEBIAN += ["libgomp1", "libstdc++6"]
#: Tags of wheels that run on the C library of Debian 12, and what tests need besides TissLM.
TAGS = ["manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"]
TESTING = ["pytest>=8.3", "hypothesis>=6.110"]
#: Packages by the tools that they bring.
TOOLS = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "qemu-aarch64": "qemu-user",
}
FETCHING = {"apt-get": "apt", "dpkg": "dpkg"}


def missing(folder: Path) -> str:
    """Say in a sentence which tools are missing and how they are had; nothing if none is."""
    tools = {**TOOLS, **({} if _ready(folder).is_file() else FETCHING)}
    lacking = [tool for tool in tools if shutil.which(tool) is None]
    if not lacking:
        return ""
    packages = " ".join(tools[tool] for tool in lacking)
    return f"there is no {' and no '.join(lacking)}; on Debian: apt-get install {packages}"


def fetch(folder: Path) -> None:
    """Unpack Debian's Python and PyPI's packages for AArch64, unless they are there."""
    if _ready(folder).is_file():
        return
    debs = _apt(folder.resolve() / "apt")
    for deb in debs:
        subprocess.run(["dpkg", "-x", str(deb), str(folder / "root")], check=True)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(folder / "packages"), "--only-binary=:all:"]
    command += ["--python-version", VERSION, *(f"--platform={tag}_aarch64" for tag in TAGS)]
    subprocess.run([*command, *needed, *TESTING], check=True)
    _ready(folder).touch()


def _ready(folder: Path) -> Path:
    return folder / f"ready-{VERSION}"


def _apt(folder: Path) -> list[Path]:
    """Download what ``DEBIAN`` names, by lists of packages of its own, and not the system's."""
    for name in ("lists/partial", "state", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "state" / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State": str(folder / "state"),
        "Dir::State::lists": str(folder / "lists"),
        "Dir::State::status": str(folder / "state" / "status"),
        "Dir::Cache": str(folder / "cache"),
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], check=True)
    command = [*apt, "--yes", "--download-only", "--no-install-recommends", "install", *DEBIAN]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def python(folder: Path) -> list[str]:
    """Return the command that runs the AArch64 Python, in ``environment``."""
    return ["qemu-aarch64", str(folder / "root" / "usr" / "bin" / f"python{VERSION}")]


def environment(folder: Path, package: Path) -> dict[str, str]:
    """Return the variables of the emulator, and of a Python that imports ``package``."""
    path = f"{package}:{(folder / 'packages').resolve()}"
    root = str((folder / "root").resolve())
    return {"QEMU_LD_PREFIX": root, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
