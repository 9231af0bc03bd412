"""Models: layers composed over one set of parameters and one workspace."""
