"""The ranks of a run: whose rows are whose, in which order gradients are added, who updates what.

Communicators, which only move bytes between ranks, are found by name; nothing is imported until one
is used.
"""
