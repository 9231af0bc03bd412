"""The monitors of a run: when they look, what they are shown, and what that costs.

At a step at which they look, monitors see in this order: activations and attention as the forward
passes leave them, gradients as they are before the update (without the loss scale), and updates
and weights after it. All are read-only views. A monitor that raises is named, taken off the list,
and never stops the run.

What does not live here: which arrays a pass shows (``pass_arrays``), and what any monitor measures.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Monitor, Network, PassObserver
from tisslm.contracts.part_names import name_of
from tisslm.contracts.pass_observer import Direction
from tisslm.errors import ConfigError
from tisslm.memory import Parameter
from tisslm.tracking.pass_arrays import Room, Sites

__all__ = ["KINDS", "Monitoring", "check_monitors", "wants_of"]

Array = NDArray[Any]

#: What a monitor may want.
KINDS = frozenset({"activations", "attention", "gradients", "updates", "weights"})

#: Kinds that are seen in a pass.
IN_PASS = frozenset({"activations", "attention"})


def check_monitors(monitors: Iterable[Monitor]) -> None:
    """Raise ConfigError for a monitor that wants what is not shown."""
    for monitor in monitors:
        missing = sorted(monitor.wants - KINDS)
        if missing:
            raise ConfigError(
                f"monitor {name_of(monitor)} wants {', '.join(missing)}, which is not "
                f"available in this version; available: {', '.join(sorted(KINDS))}"
            )


def wants_of(monitors: Iterable[Monitor]) -> frozenset[str]:
    """Return the kinds of array that any of these monitors wants."""
    return frozenset[str]().union(*(monitor.wants for monitor in monitors))


class Monitoring(PassObserver):
    """Show a run to its monitors at some steps, and collect what they find.

    Parameters
    ----------
    monitors : list of Monitor
        Those that raise are removed from it.
    model : Network
    room : Room
    """

    def __init__(self, monitors: list[Monitor], model: Network, room: Room) -> None:
        self._monitors = monitors
        self._model = model
        self._room = room
        self._sites = Sites(room, self._show, model.attention_scale)
        self._looks = False
        self._last: dict[int, str] = {}  # the kind that each monitor has seen last at this step
        self._seconds: dict[str, float] = {}
        self._start: Array | None = None
        self._before: Array | None = None

    # ------------------------------------------------------------------ a step

    def begin(self, looks: bool) -> None:
        """Begin a step, at which the monitors look or do not.

        What they saw of a step that was not applied is forgotten.
        """
        if self._looks:
            self._ask()
        self._looks = looks and bool(self._monitors)
        self._last, self._seconds = {}, {}

    @contextmanager
    def watching(self, start_BT: Array | None) -> Iterator[None]:
        """Show the forward pass of a micro-batch.

        Parameters
        ----------
        start_BT : integer ndarray of shape (B, T), optional
            The column in which the document of each token begins.
        """
        if not (self._looks and wants_of(self._monitors) & IN_PASS):
            yield
            return
        self._start = None if start_BT is None else np.ascontiguousarray(start_BT, np.int32)
        with self._model.observed(self):
            yield

    def leave(self, place: str, direction: Direction, arrays: Mapping[str, Array]) -> None:
        """Show what a part of the forward pass has left."""
        if direction == "forward":
            with self._clock("total"):
                self._sites.look(wants_of(self._monitors), place, arrays, self._start)

    def before_update(self, scale: float) -> None:
        """Show the gradients, and keep the parameters if anyone wants the update.

        Parameters
        ----------
        scale : float
            The factor that the gradients have been multiplied by; they are shown without it.
        """
        if not self._looks:
            return
        wants, parameters = wants_of(self._monitors), self._model.parameters
        with self._clock("total"):
            for parameter in self._trainable() if "gradients" in wants else ():
                self._show("gradients", parameter.name, self._unscaled(parameter, scale))
            if "updates" in wants:
                data = parameters.data
                self._before = self._room.take("updates", data.shape, data.dtype)
                np.copyto(self._before, data)

    def after_update(self) -> dict[str, Any]:
        """Show updates and weights; return the metrics of the step, none if nobody looks."""
        if not self._looks:
            return {}
        wants, parameters = wants_of(self._monitors), self._model.parameters
        with self._clock("total"):
            if self._before is not None:
                np.subtract(parameters.data, self._before, out=self._before)
                for p in self._trainable():
                    update = self._before[p.offset : p.offset + p.data.size].reshape(p.shape)
                    self._show("updates", p.name, update)
            for p in self._trainable() if "weights" in wants else ():  # frozen ones stay
                self._show("weights", p.name, p.data)
            self._warn_of_blind_ones()
            found = self._ask()
        self._looks, self._before = False, None
        costs = {f"monitor/{name}_ms": 1e3 * taken for name, taken in self._seconds.items()}
        return {**found, **costs}

    # ------------------------------------------------------------------ arrays

    def _trainable(self) -> Iterator[Parameter]:
        return (p for p in self._model.parameters if p.trainable)

    def _unscaled(self, parameter: Parameter, scale: float) -> Array:
        """Return a gradient without the loss scale, which stays in the run's own array.

        Dividing that in place would change the smallest gradients, and the run.
        """
        grad = parameter.grad
        if scale == 1.0:
            return grad
        copy = self._room.take("gradients", grad.shape, grad.dtype)
        np.multiply(grad, grad.dtype.type(1.0 / scale), out=copy)
        return copy

    def _show(self, kind: str, site: str, array: Array) -> None:
        """Show an array to each monitor that wants its kind."""
        for monitor in list(self._monitors):
            if kind in monitor.wants:
                turns = self._last.get(id(monitor)) != kind
                self._last[id(monitor)] = kind
                self._try(monitor, _observe, kind if turns else "", site, array)

    # ------------------------------------------------------------------ monitors

    def _ask(self) -> dict[str, Any]:
        """Return what the monitors have found, which they forget."""
        found: dict[str, Any] = {}
        for monitor in list(self._monitors):
            self._try(monitor, lambda monitor: found.update(monitor.metrics()))
        return found

    def _try(self, monitor: Monitor, action: Callable[..., None], *args: Any) -> None:
        """Do something with a monitor, which is taken off the list if it raises."""
        try:
            with self._clock(_name(monitor)):
                action(monitor, *args)
        except Exception as error:  # an observer must not cost a night of training
            self._monitors.remove(monitor)
            warnings.warn(
                f"monitor {name_of(monitor)} is switched off: {type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=4,
            )

    def _warn_of_blind_ones(self) -> None:
        """Take monitors off the list that were shown nothing: the model announces no passes."""
        for monitor in list(self._monitors):
            if monitor.wants and id(monitor) not in self._last:
                self._monitors.remove(monitor)
                warnings.warn(
                    f"monitor {name_of(monitor)} is switched off: it wants "
                    f"{', '.join(sorted(monitor.wants))}, and {type(self._model).__name__} shows "
                    "none. A model shows its passes by tisslm.contracts.pass_observer",
                    RuntimeWarning,
                    stacklevel=4,
                )

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start


def _observe(monitor: Monitor, turns_to: str, site: str, array: Array) -> None:
    """Show an array as a view that cannot be made writable again."""
    if turns_to:
        monitor.turn_to(turns_to)
    monitor.observe(site, np.asarray(array.data.toreadonly()))


def _name(monitor: Monitor) -> str:
    """Return a monitor's name; of a class, as names are written: GradientNorms, gradient_norms."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name_of(monitor)).lower()
