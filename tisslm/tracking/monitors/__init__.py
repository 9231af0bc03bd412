"""Monitors: observers of arrays during the pass, found by name.

What they find is written by sinks (``tisslm.tracking.sinks``). Nothing is imported until a monitor
is used.
"""
