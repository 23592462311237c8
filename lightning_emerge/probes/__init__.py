"""Probes: one a file, each naming what it needs, its measure and its figure."""
