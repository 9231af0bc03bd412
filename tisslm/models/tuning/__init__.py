"""What of a model is trained: all of it, what is not frozen, or adapters beside it."""
