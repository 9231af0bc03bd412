"""Monitors: observers of arrays during the pass, found by name.

What does not live here: writing what they find (``tisslm.tracking.sinks``). Nothing is imported
until a monitor is used.
"""
