"""How long a step takes on many nodes: a model's figures, from those of one node and a network."""
