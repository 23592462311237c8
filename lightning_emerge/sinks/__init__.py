"""Sinks: the only input and output of results."""
