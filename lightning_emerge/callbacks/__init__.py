"""Callbacks that are no probes: checkpoints, frozen layers, and pictures at the beginning and at epochs."""
