"""The base of all conformance checks: assertions that are counted, and the report."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Metric, Stateful
from tisslm.errors import PluginError

__all__ = ["Checks", "ConformanceError", "Report"]

Array = NDArray[Any]


class ConformanceError(PluginError, AssertionError):
    """A part breaks its contract; test runners show it as a failed assertion."""


@dataclass(frozen=True)
class Report:
    """The result of a conformance check that found no failure.

    Attributes
    ----------
    name : str
        The part, such as ``optimizer 'adamw' (tisslm 0.1.0)``.
    n_assertions : int
        The number of assertions that were made, all of which held; at least 1.
    """

    name: str
    n_assertions: int

    def __str__(self) -> str:
        return f"{self.name}: {self.n_assertions} assertions"


class Checks:
    """A counter of the assertions about one part, which names the part when one fails.

    Parameters
    ----------
    part : str
        What messages begin with.
    contract : type
        The class of ``tisslm.contracts`` that the part keeps.
    see : str, optional
        What a message refers its reader to, if not to the contract.
    """

    def __init__(self, part: str, contract: type[Any], see: str = "") -> None:
        self.part = part
        self._see = see or f"tisslm.contracts.{contract.__name__}"
        self.contract = contract
        self.n_assertions = 0
        self._options: Mapping[str, Any] = {}
        self._property = ""

    def run(
        self, prop: Callable[..., None], *args: Any, options: Mapping[str, Any] | None = None
    ) -> None:
        """Check a property; an exception of the part counts as a failure.

        Parameters
        ----------
        prop : callable
            A function that is called with this object and ``args``. Its name, with spaces, is the
            property in messages.
        *args
        options : mapping, optional
            The options that the part was built with, for messages.
        """
        self._property = prop.__name__.strip("_").replace("_", " ")
        self._options = options or {}
        before = self.n_assertions
        try:
            prop(self, *args)
        except ConformanceError:
            raise
        except Exception as error:  # whatever the part raises
            problem = f"{type(error).__name__}: {error}"
            raise ConformanceError(self._message("no exception", problem)) from error
        if self.n_assertions == before:
            self.fail("at least one assertion", "none, so nothing was checked")

    def that(self, holds: bool, expected: object, got: object) -> None:
        """Count an assertion, and raise if it does not hold."""
        self.n_assertions += 1
        if not holds:
            self.fail(expected, got)

    def same(self, got: Any, expected: Any, what: str) -> None:
        """Assert that two arrays are equal bit for bit, or two other values equal."""
        if isinstance(expected, np.ndarray):
            got = np.asarray(got)
            self.that(
                got.dtype == expected.dtype and got.shape == expected.shape,
                f"{what} of shape {expected.shape} {expected.dtype}",
                f"{got.shape} {got.dtype}",
            )
            self.that(got.tobytes() == expected.tobytes(), *_first_difference(got, expected, what))
        else:
            self.that(bool(got == expected), f"{what} {_show(expected)}", _show(got))

    def close(self, got: Any, expected: Any, what: str, tolerance: float) -> None:
        """Assert that arrays differ by at most ``tolerance`` of the largest expected value."""
        got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
        self.same(got.shape, expected.shape, f"{what}: shape")
        size = float(np.abs(expected).max(initial=0.0))
        near = np.abs(got - expected) <= tolerance * (size or 1.0)
        self.that(bool(near.all()), *_first_difference(got, expected, what, near))

    def finite(self, got: Any, what: str) -> None:
        """Assert that every value is a finite number."""
        values = np.asarray(got)
        wrong = values[~np.isfinite(values)]
        self.that(wrong.size == 0, f"finite {what}", f"{wrong[:1]} among {values.size} values")

    def raises(self, kind: type[Exception], call: Callable[[], object], what: str) -> None:
        """Assert that a call raises an exception of a class."""
        try:
            call()
        except kind:
            self.n_assertions += 1
        except Exception as error:  # whatever the part raises
            self.fail(f"{kind.__name__} for {what}", f"{type(error).__name__}: {error}")
        else:
            self.fail(f"{kind.__name__} for {what}", "no exception")

    def fail(self, expected: object, got: object) -> NoReturn:
        """Raise the error that names the part, the property, what was expected and what came."""
        raise ConformanceError(self._message(expected, got))

    def _message(self, expected: object, got: object) -> str:
        options = ", ".join(f"{k}={_show(v)}" for k, v in self._options.items())
        built = f" with {options}" if options else ""
        return (
            f"{self.part}{built}: {self._property}: expected {expected}, got {got}. See {self._see}"
        )

    def report(self) -> Report:
        """Return the number of assertions that were made.

        Raises
        ------
        ConformanceError
            If none was made.
        """
        if self.n_assertions == 0:
            self.fail("at least one assertion", "none, so nothing was checked")
        return Report(self.part, self.n_assertions)


def keeps_final_methods(checks: Checks, cls: type[Any]) -> None:
    """Check that methods which the contract marks as final are not overridden."""
    checks.that(
        isinstance(cls, type) and issubclass(cls, checks.contract),
        f"a subclass of tisslm.contracts.{checks.contract.__name__}",
        repr(cls),
    )
    for name, method in inspect.getmembers(checks.contract, inspect.isfunction):
        if getattr(method, "__final__", False):
            own = getattr(cls, name)
            checks.that(own is method, f"{name} as the contract has it", f"{own.__qualname__}")


def own_metrics_are_declared(checks: Checks, make: Callable[[], Stateful], *_: object) -> None:
    """Check that ``metrics`` gives numbers named in ``declares``, and changes no state."""
    part = make()
    checks.same(all(isinstance(one, Metric) for one in part.declares), True, "declares")
    found = dict(part.metrics())
    checks.same(found.keys() - {one.name for one in part.declares}, set(), "undeclared metrics")
    for name, value in found.items():
        checks.that(isinstance(value, Real), f"metric {name!r} to be a number", repr(value))
    checks.same(list(part.metrics()), list(found), "names of metrics asked for again")


def _first_difference(
    got: Array, expected: Array, what: str, near: Array | None = None
) -> tuple[str, str]:
    """Return what was expected and what came at the first place where two arrays differ."""
    if got.shape != expected.shape or got.size == 0:
        return what, "another"
    differs = np.asarray(got != expected if near is None else ~np.asarray(near))
    if not differs.any():
        return what, "values that differ in sign of zero or in NaN only"
    index = tuple(int(i) for i in np.argwhere(differs)[0])
    place = f"{what}{list(index)}" if index else what
    return f"{place} {_show(expected[index])}", _show(got[index])


def _show(value: object) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return f"{value:.9g}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
