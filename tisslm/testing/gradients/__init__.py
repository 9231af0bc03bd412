"""The problems of ``check_gradients``: kernels, layers, losses, models, optimizers."""
