"""Sinks: places that metrics are written to, found by name.

Nothing is imported until a sink is used.

What does not live here: computing metrics (the Trainer, ``tisslm.tracking.monitors``).
"""
