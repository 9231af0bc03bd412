"""The ranks of a run: whose rows are whose, in which order gradients are added, who updates what.

What moves bytes between ranks is a communicator (``communicators``).
"""
