"""The family ``qwen3``."""
