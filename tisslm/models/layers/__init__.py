"""Sublayers of the residual stream, each with its forward and its hand-written backward."""
