"""The family ``gpt_neox``: GPT-NeoX and Pythia."""
