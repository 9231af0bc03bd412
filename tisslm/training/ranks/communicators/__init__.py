"""Communicators, found by name; nothing is imported until one is used."""
