"""Sinks: TensorBoard and other loggers, beside the store the only output of results."""
