"""A run on a terminal: what is remembered of it, how it is drawn, and the screen it is drawn on.

The sink ``console`` and ``tisslm top`` show the same board, from a run in this process and from the
files of any run.
"""
