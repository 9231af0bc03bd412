"""Which MPI the ranks will load, and the ``mpiexec`` that belongs to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tisslm.errors import ConfigError

__all__ = ["MPI", "find_mpi"]

#: Names of the command by vendor. Where several libraries share a folder, only the first are
#: unmistakable.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "Open MPI": ("mpirun.openmpi", "mpirun", "mpiexec", "prterun"),
    "MPICH": ("mpiexec.hydra", "mpiexec.mpich", "mpiexec"),
    "Intel MPI": ("mpiexec.hydra", "mpiexec"),
}

#: What the command says of itself.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "Open MPI": ("Open MPI", "OpenRTE", "PRRTE"),
    "MPICH": ("HYDRA",),
    "Intel MPI": ("Intel(R) MPI", "HYDRA"),
}

#: All ranks on this machine, also in a job of a cluster that has others; cores are the engine's
#: to share out (``tisslm.training.ranks.placing``), and how many there are was looked at before.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "Open MPI": ("--host", "localhost", "--oversubscribe", "--bind-to", "none"),
    "MPICH": ("-launcher", "fork", "-host", "localhost", "-bind-to", "none"),
    "Intel MPI": ("-launcher", "fork", "-host", "localhost"),
}

_PREFIXES = ("OPAL_PREFIX", "PRTE_PREFIX", "PMIX_PREFIX")
_INSTALL = "install one (pip install mpich, or the cluster's own)"
_PATIENCE = 60.0


@dataclass(frozen=True)
class MPI:
    """A library of MPI, and how its ranks are started.

    Attributes
    ----------
    vendor : str
        ``MPICH``, ``Open MPI`` or ``Intel MPI``.
    command : tuple of str
        Begins a command line; ``-n``, a number and a program follow.
    environment : mapping of str to str
        What is added to the environment.
    """

    vendor: str
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def start_line(self, ranks: int, program: Iterable[str]) -> list[str]:
        """Return the command line that starts a program on so many ranks."""
        return [*self.command, "-n", str(ranks), *program]

    def exit_code(self, code: int) -> int:
        """Return an exit code of the launcher as a shell has it: 128 and the signal's number.

        MPICH returns the number of the signal that has ended a rank. The first four are
        exit codes of TissLM, too, and taken for them.
        """
        if code < 0:
            return 128 - code
        return 128 + code if self.vendor == "MPICH" and 4 < code < 32 else code


def find_mpi(environment: Mapping[str, str] = os.environ) -> MPI:
    """Return the MPI that mpi4py loads, with its launcher.

    Parameters
    ----------
    environment : mapping, optional

    Raises
    ------
    ConfigError
        If mpi4py, a library or its launcher is missing.
    """
    found = _probe(environment)
    if "missing" in found and found["missing"] == "mpi4py":
        raise ConfigError(
            "launch: several ranks need mpi4py, which is not installed; pip install tisslm-mpi, "
            "or start one rank with -n 1"
        )
    if "vendor" not in found:
        why = found.get("problem") or found.get("missing") or "no answer"
        raise ConfigError(
            f"launch: mpi4py finds no MPI library ({why}); {_INSTALL}, or name its file by "
            "MPI4PY_LIBMPI=/path/to/libmpi.so"
        )
    vendor, paths = str(found["vendor"]), [Path(path) for path in found["paths"]]
    if vendor not in _NAMES:
        raise ConfigError(
            f"launch: expected MPICH, Open MPI or Intel MPI, got {vendor}; start the ranks by its "
            "own launcher: mpiexec -n 4 tisslm train CONFIG.toml"
        )
    for command in _candidates(vendor, paths, environment.get("PATH", os.defpath)):
        more = _moved(vendor, command, paths, environment)
        if any(word in _version(command, {**environment, **more}) for word in _WORDS[vendor]):
            personality = ("--personality", "ompi") if command.name == "prterun" else ()
            return MPI(vendor, (str(command), *personality, *_OPTIONS[vendor]), more)
    raise ConfigError(
        f"launch: mpi4py loads {vendor} ({', '.join(map(str, paths))}), and there is no mpiexec of "
        "it, neither beside the library nor in PATH; install that of the same package, or name "
        "another library by MPI4PY_LIBMPI=/path/to/libmpi.so"
    )


def _probe(environment: Mapping[str, str]) -> dict[str, Any]:
    program = str(Path(__file__).with_name("probe.py"))
    try:
        done = subprocess.run(
            [sys.executable, "-P", program],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        return dict(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError):
        return {}


def _candidates(vendor: str, libraries: Iterable[Path], path: str) -> Iterator[Path]:
    """Yield commands that may be the library's: beside it first, then as a shell finds them."""
    for library in libraries:
        for folder in list(library.parents)[1:4]:  # bin is beside lib, lib64, lib/x86_64-linux-gnu
            for name in _NAMES[vendor]:
                command = folder / "bin" / name
                if os.access(command, os.X_OK):
                    yield command
    for name in _NAMES[vendor]:
        found = shutil.which(name, path=path)
        if found:
            yield Path(found)


def _moved(
    vendor: str, command: Path, libraries: Iterable[Path], environment: Mapping[str, str]
) -> dict[str, str]:
    """Return what Open MPI has to be told: where it has been moved to, and that root may.

    A wheel is unpacked elsewhere than it was built for. Who starts a program as root here has
    decided so; Open MPI would ask a second time.
    """
    if vendor == "Intel MPI":
        return {"I_MPI_PIN": "0"}
    if vendor != "Open MPI":
        return {}
    prefix = command.parent.parent
    is_beside = any(library.parent == prefix / "lib" for library in libraries)
    told = any(environment.get(name) for name in _PREFIXES)
    return {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        **(dict.fromkeys(_PREFIXES, str(prefix)) if is_beside and not told else {}),
    }


def _version(command: Path, environment: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            [str(command), "--version"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).decode(errors="replace")
