"""Names in event files. Nothing is imported here, as TensorBoard's process reads them too."""

BOARD = "emerge"
"""The plugin's name, in TensorBoard's addresses and in the event file of a run that has records."""
