"""Programs made of the library's pieces: what each command does, callable from Python."""
