"""The family ``mistral``."""
