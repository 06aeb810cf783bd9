"""Runs to pass on: as a directory that opens anywhere, or as an encoder for other runtimes."""
