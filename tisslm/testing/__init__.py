"""Conformance checks and gradient checks of parts, for our tests and for those of plugins.

Each ``check_<kind>`` takes a class, asserts what the contract of its kind demands, and returns a
``Report`` with the number of assertions; ``check_all`` does so for every registered part.
``check_gradients`` compares every backward with central differences in float64, and float32 with
float64. ``docs/testing-plugins.md`` shows how a plugin's tests use them.

They need no test runner; a failed check is an exception.
"""

from __future__ import annotations

from tisslm.testing.checks import ConformanceError, Report
from tisslm.testing.communicator import check_communicator
from tisslm.testing.dataset import check_dataset
from tisslm.testing.every_part import check_all, check_part
from tisslm.testing.gradcheck import GradientRow, check_gradients
from tisslm.testing.kernel import check_kernel
from tisslm.testing.layer import check_layer
from tisslm.testing.losses import check_loss
from tisslm.testing.models import check_model
from tisslm.testing.monitor import check_monitor
from tisslm.testing.optimizer import check_optimizer
from tisslm.testing.scheduler import check_scheduler
from tisslm.testing.sink import check_sink
from tisslm.testing.tokenizer import check_tokenizer

__all__ = [
    "ConformanceError",
    "GradientRow",
    "Report",
    "check_all",
    "check_communicator",
    "check_dataset",
    "check_gradients",
    "check_kernel",
    "check_layer",
    "check_loss",
    "check_model",
    "check_monitor",
    "check_optimizer",
    "check_part",
    "check_scheduler",
    "check_sink",
    "check_tokenizer",
]
