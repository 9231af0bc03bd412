"""Sinks: places that metrics are written to, found by name.

What does not live here: computing metrics (the Trainer, ``tisslm.tracking.monitors``), and
summaries of whole runs. Nothing is imported until a sink is used.
"""
