"""The GPT-2 family: learned positions, a layer norm before each sublayer, GELU in the MLP."""
