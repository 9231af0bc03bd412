"""The compiled kernels, a module for each optimizer; their formulas are with the twins."""
