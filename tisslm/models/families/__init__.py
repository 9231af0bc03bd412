"""The built-in families of models, one folder each."""
