"""The NumPy twins of the kernels, which also run for float64: a module for each optimizer."""
