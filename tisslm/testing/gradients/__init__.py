"""The backward passes that ``check_gradients`` compares: kernels, layers, losses, models, updates.

What does not live here: the door to them (``tisslm.testing.gradcheck``).
"""
