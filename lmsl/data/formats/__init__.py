"""Readers, one file a format: what a file states, not yet what the project takes of it."""
