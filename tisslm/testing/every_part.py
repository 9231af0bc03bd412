"""Running the conformance checks of every registered part, built in or installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from tisslm.registry import Part, Registry, load_registry
from tisslm.testing.checks import ConformanceError, Report
from tisslm.testing.communicator import check_communicator
from tisslm.testing.dataset import check_dataset
from tisslm.testing.losses import check_loss
from tisslm.testing.models import check_model
from tisslm.testing.monitor import check_monitor
from tisslm.testing.optimizer import check_optimizer
from tisslm.testing.scheduler import check_scheduler
from tisslm.testing.sink import check_sink
from tisslm.testing.tokenizer import check_tokenizer

__all__ = ["CHECKS", "check_all", "check_part"]

#: The check of each kind of part, by the kind's name.
CHECKS: Mapping[str, Callable[..., Report]] = MappingProxyType(
    {
        "optimizer": check_optimizer,
        "scheduler": check_scheduler,
        "loss": check_loss,
        "sink": check_sink,
        "monitor": check_monitor,
        "dataset": check_dataset,
        "tokenizer": check_tokenizer,
        "communicator": check_communicator,
        "model": check_model,
    }
)


def check_part(part: Part) -> Report:
    """Check one registered part.

    Parameters
    ----------
    part : Part
        A part from ``registry.entries(kind)``.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that fails.
    PluginError
        If the class cannot be imported or lacks a method.
    """
    return CHECKS[part.kind.name](part.load(), name=str(part))


def check_all(registry: Registry | None = None) -> list[Report]:
    """Check every registered part, and that every installed plugin can be loaded.

    Parameters
    ----------
    registry : Registry, optional
        The parts to check; every installed one if left out.

    Returns
    -------
    list of Report
        A report for each part.

    Raises
    ------
    ConformanceError
        If any part fails; the message has a line for each of them.
    """
    registry = load_registry() if registry is None else registry
    reports: list[Report] = []
    failures = [f"{plugin}" for plugin in registry.left_out if plugin.status == "broken"]
    for kind in CHECKS:
        for part in registry.entries(kind):
            try:
                reports.append(check_part(part))
            except Exception as error:  # a part's module may raise anything when it is imported
                failures.append(str(error))
    if failures:
        raise ConformanceError("\n".join(failures))
    return reports
