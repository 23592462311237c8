"""Measures: tensors in, tensors out. No Lightning, no drawing, no input or output."""
