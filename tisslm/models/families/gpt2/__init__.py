"""The family ``gpt2``."""
