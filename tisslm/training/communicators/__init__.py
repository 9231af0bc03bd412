"""Communicators: the processes of a run and the sums they form together, found by name.

What does not live here: starting processes. Nothing is imported until a communicator is used.
"""
