"""The family ``llama``: Llama, SmolLM2, TinyLlama and the like."""
