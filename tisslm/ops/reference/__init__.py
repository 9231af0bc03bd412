"""NumPy twins of the compiled kernels: the same files, functions and arguments, less ``n_threads``.

A twin states the formula in the fewest lines, in whatever float type its arrays have: in float64
it is the proof of the mathematics (against central differences) and the oracle of the kernels;
it also runs models built with dtype float64, and every model under ``TISSLM_OPS=reference``.

Results are written into the arrays passed in. What does not live here: checks of shapes and
values (the callers make them), and any attempt at speed.
"""

from __future__ import annotations
