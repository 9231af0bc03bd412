"""What a command does, from Python."""
