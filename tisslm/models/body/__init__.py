"""What is below the head of every transformer: embedding, layers, final norm, and their buffers."""
