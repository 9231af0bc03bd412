"""Learning-rate range tests: train a few steps at rising rates, and see where the loss falls.

``range_test`` leaves a trainer as it was. ``Curve`` has the rates, the losses and a suggested rate;
``write_plot`` draws it. ``training.learning_rate`` is never changed by a test.

References
----------
L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186, section 3.3.
"""

from __future__ import annotations

from tisslm.workflows.figures import check_plot
from tisslm.workflows.lr_range.curve import Curve
from tisslm.workflows.lr_range.plot import write_plot
from tisslm.workflows.lr_range.sweep import Rates, range_test, sweep

__all__ = ["Curve", "Rates", "check_plot", "range_test", "sweep", "write_plot"]
