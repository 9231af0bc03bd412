"""The family ``qwen2``: Qwen2 and Qwen2.5."""
