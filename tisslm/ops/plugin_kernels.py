"""Compiled kernels of plugins: found by name, and refused where they were built for something else.

What does not live here: TissLM's own (``runtime.compiled``).
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import re
from collections.abc import Callable
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tisslm.errors import PluginError
from tisslm.ops.runtime import watch_also

__all__ = ["plugin_kernel"]

_HEADER = Path(__file__).parents[1] / "_kernels" / "c" / "plugin.h"


def interface_version() -> int:
    """Return the version of the interface of this TissLM, as its header says it."""
    found = re.search(r"^#define TISS_INTERFACE (\d+)$", _HEADER.read_text(), re.MULTILINE)
    if found is None:
        raise PluginError(f"{_HEADER}: expected a version of the interface. Install TissLM again")
    return int(found[1])


def plugin_kernel(twin: Callable[..., Any], kernel: str) -> Callable[..., Any]:
    """Load a kernel, after a look at the version of the interface that it was compiled for.

    Parameters
    ----------
    twin : callable
    kernel : str
        ``"module:function"``.

    Raises
    ------
    PluginError
        If it is not built, built for another version, or not the twin's counterpart.
    """
    name, _, function = kernel.partition(":")
    whose = _distribution(name)
    file = _compiled_file(name, whose)
    built, wanted = _version_of(file), interface_version()
    if built != wanted:
        what = "no version" if built is None else f"version {built}"
        raise PluginError(
            f"{whose}: module {name} was compiled for {what} of the kernel interface, and this "
            f"TissLM has version {wanted}. Build it again: {_remedy(whose)}"
        )
    found = getattr(importlib.import_module(name), function, None)
    expected = [*inspect.signature(twin).parameters, "n_threads"]
    got = None if found is None else list(inspect.signature(found).parameters)
    if found is None or got != expected:
        raise PluginError(
            f"{whose}: kernel {kernel}: expected the arguments of its twin and n_threads, "
            f"({', '.join(expected)}), got {'no function' if got is None else ', '.join(got)}. "
            f"If it was changed, build it again: {_remedy(whose)}"
        )
    watch_also(str(file))
    return found  # type: ignore[no-any-return]


def _compiled_file(name: str, whose: str) -> Path:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not str(spec.origin).endswith(tuple(EXTENSION_SUFFIXES)):
        raise PluginError(
            f"{whose}: its compiled kernels are not built (there is no extension module {name}). "
            f"Run {_remedy(whose)}, or set TISSLM_OPS=reference to use the slow NumPy twins"
        )
    return Path(str(spec.origin))


def _version_of(file: Path) -> int | None:
    """Read the number without running the module, which another interface could break."""
    try:
        return ctypes.c_int.in_dll(ctypes.CDLL(str(file)), "tisslm_kernel_interface").value
    except ValueError:
        return None


def _distribution(module: str) -> str:
    package = module.partition(".")[0]
    names = metadata.packages_distributions().get(package)
    return names[0] if names else package


def _remedy(whose: str) -> str:
    return f"'pip install --no-build-isolation --force-reinstall --no-deps {whose}'"
