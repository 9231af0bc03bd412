"""The machine and its files: reading within limits, writing that lasts, processes and memory."""
