"""From logits to an update: losses, optimizers, schedulers, the scale of fp16's gradients."""
