"""NumPy twins of the kernels: the same modules, functions and arguments, but for ``n_threads``.

A twin states the formula in the fewest lines, in whatever float type its arrays have: in float64
it is the proof of the mathematics (against central differences) and the oracle of the kernels;
it also runs models built with dtype float64, and every model under ``TISSLM_OPS=reference``.

Results are written into the arrays passed in. Shapes and values are checked by the callers, not
here.
"""

from __future__ import annotations
