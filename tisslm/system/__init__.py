"""The machine and its files: reading within limits, durable writing, processes and memory."""
