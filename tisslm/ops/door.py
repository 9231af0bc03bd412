"""The door to the kernels: how an operation becomes one, TissLM's own or a plugin's.

``register`` puts around a kernel what every kernel needs: the number of threads, the lock and the
size of the threads' scratch, error codes as exceptions, the refusal of forked processes, and the
watchers. ``docs/decisions/0032-kernels-of-plugins.md`` says why it is so.

What does not live here: the built-in operations (``operations``), and loading (``runtime``,
``plugin_kernels``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Signature, signature
from typing import Any, ParamSpec, cast

import numpy as np

from tisslm.errors import PluginError, ShapeError, TissLMError
from tisslm.ops.marks import Marks, marks_of
from tisslm.ops.plugin_kernels import plugin_kernel
from tisslm.ops.runtime import REFERENCE_ONLY, compiled, pool, refuse_fork
from tisslm.ops.watchers import watchers

__all__ = ["OPERATIONS", "OTHER", "PARTS", "Operation", "register"]

P = ParamSpec("P")

_FLOAT32 = np.dtype(np.float32)
_KERNEL_TYPES = (_FLOAT32, np.dtype(np.float16))

#: Parts of a training step, and of what is done beside it.
PARTS = (
    "products",
    "monitors",
    "attention",
    "norms",
    "activation",
    "loss",
    "embedding",
    "residual",
    "optimizer",
)
OTHER = "other kernels"

OnCode = Callable[[int], Exception]


@dataclass(frozen=True)
class Operation:
    """An operation that went through the door.

    Attributes
    ----------
    run : callable
        What ``register`` returned.
    twin : callable
    part : str
        Part of a training step, one of ``PARTS`` or ``OTHER``.
    marks : Marks
        Which arrays it reads and writes.
    """

    run: Callable[..., None]
    twin: Callable[..., Any]
    part: str
    marks: Marks


#: Every operation of this process, by the name of its twin.
OPERATIONS: dict[str, Operation] = {}


def register(
    twin: Callable[P, Any],
    kernel: str | None = None,
    *,
    on_code: OnCode | None = None,
    part: str | None = None,
) -> Callable[P, None]:
    """Return an operation that runs a compiled kernel on all threads, or its NumPy twin.

    The first float array among the arguments decides: float64 runs the twin, and so does everything
    under ``TISSLM_OPS=reference``.

    Parameters
    ----------
    twin : callable
        A function of any float type that writes into its arguments. Its docstring marks each array
        IN, OUT, IN/OUT or scratch, by which the search for numbers that are not finite, and the
        profiler, know what it reads and writes. It may return the kernel's positive codes.
    kernel : str, optional
        ``"module:function"``: a module that was compiled with ``tisslm.ops.building``, and a
        function with the twin's arguments and ``n_threads``. It returns 0, or a code that is
        positive for an error, or -n where each thread needs n floats of scratch. None: the
        built-in kernel module that is named as the twin's module.
    on_code : callable, optional
        Turns a positive code into an exception.
    part : str, optional
        Part of a training step that a profile counts it to: products, monitors, attention, norms,
        activation, loss, embedding, residual or optimizer; left out, none of these.

    Returns
    -------
    callable
        With the arguments of the twin, and its docstring.

    Raises
    ------
    PluginError
        If the kernel is not built, was built for another version of the interface, or has other
        arguments than the twin, or if another operation has the name.
    """
    name = twin.__name__
    _check(name, twin, part)
    op = _door(name, twin, _load(twin, kernel), on_code)
    OPERATIONS[name] = Operation(op, twin, part or OTHER, marks_of(twin))
    return op


def _check(name: str, twin: Callable[..., Any], part: str | None) -> None:
    other = OPERATIONS.get(name)
    if other is not None and other.twin.__module__ != twin.__module__:
        raise PluginError(
            f"operation {name!r} of {twin.__module__}: {other.twin.__module__} registered one of "
            "that name already. Give it another name"
        )
    if part is not None and part not in PARTS:
        raise PluginError(
            f"operation {name!r} of {twin.__module__}: part: expected one of {', '.join(PARTS)}, "
            f"got {part!r}"
        )


def _load(twin: Callable[..., Any], kernel: str | None) -> Callable[..., Any] | None:
    """Return the compiled function; None where everything runs the twin."""
    if REFERENCE_ONLY:
        return None
    if kernel is not None:
        return plugin_kernel(twin, kernel)
    module = compiled(twin.__module__.rpartition(".")[2])
    return getattr(module, twin.__name__)  # type: ignore[no-any-return]


def _door(
    name: str,
    twin: Callable[P, Any],
    kernel: Callable[..., Any] | None,
    on_code: OnCode | None,
) -> Callable[P, None]:
    places, reference = signature(twin), cast(Callable[..., Any], twin)

    @wraps(twin)
    def op(*args: P.args, **kwargs: P.kwargs) -> None:
        given = places.bind(*args, **kwargs).args if kwargs else args
        told = watchers()
        for watcher in told:
            watcher.before(name, given)
        try:
            code = (
                reference(*given)
                if kernel is None or not _has_kernel(given)
                else _call(kernel, name, given)
            )
        except (AttributeError, TypeError, ValueError):
            _refuse_none(name, places, given)
            raise
        if code:
            raise on_code(code) if on_code is not None and code > 0 else _unexplained(name, code)
        for watcher in told:
            watcher.after(name, given)

    return op


def _unexplained(name: str, code: int) -> TissLMError:
    what = "asks for scratch that it has been given" if code < 0 else "has no explanation for it"
    return TissLMError(f"{name}: the kernel returned {code}, and {what}. This is a mistake in it")


def _call(kernel: Callable[..., Any], name: str, args: tuple[Any, ...]) -> Any:
    """Run a kernel on all threads and return its code; it counts rows and columns in 32 bits.

    A small pass is a hundred calls, each about as long as what is done here: so there is as little
    as there can be, and the number of threads has its place, the last.
    """
    if pool.forked:
        refuse_fork(name)
    try:
        with pool.lock:  # the threads' scratch serves one kernel at a time
            code = kernel(*args, pool.chosen.count)
            if code and code < 0:  # the scratch that it needs, in floats
                pool.reserve(-code)
                code = kernel(*args, pool.chosen.count)
    except OverflowError as error:
        raise ShapeError(
            f"{name}: {error}. Take fewer rows at a time, or a smaller model"
        ) from None
    return code


def _refuse_none(name: str, places: Signature, args: tuple[Any, ...]) -> None:
    """Name the first array that is None and must not be, by the annotations of the twin."""
    for parameter, value in zip(places.parameters.values(), args, strict=False):
        if value is None and "None" not in str(parameter.annotation):
            raise ShapeError(
                f"{name}: {parameter.name}: expected an array, got None. Leave out only what the "
                "operation's docstring says may be None"
            ) from None


def _has_kernel(args: tuple[Any, ...]) -> bool:
    """Tell whether the first float array of an op's arguments is of a type that kernels know."""
    for value in args:
        if isinstance(value, np.ndarray):
            dtype = value.dtype
            if dtype is _FLOAT32:  # nearly always
                return True
            if dtype.kind == "f":
                return dtype in _KERNEL_TYPES
    return True
