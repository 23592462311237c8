"""Figures: measurements drawn with matplotlib; no arithmetic that a measure should do."""
