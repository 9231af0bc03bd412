"""Coordinate checks: whether activations keep their size when a model is made wider.

``coordinate_check`` trains models of several widths a few steps. ``Coordinates`` has the mean
absolute value of what each part computes, by width and step; ``write_plot`` draws it.

References
----------
Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter
Transfer", arXiv 2203.03466, appendix D.1.
"""

from __future__ import annotations

from tisslm.workflows.coordinates.measuring import coordinate_check
from tisslm.workflows.coordinates.plot import write_plot
from tisslm.workflows.coordinates.table import FLAT, Coordinates
from tisslm.workflows.coordinates.widths import Widths

__all__ = ["FLAT", "Coordinates", "Widths", "coordinate_check", "write_plot"]
