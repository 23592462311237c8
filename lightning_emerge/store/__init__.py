"""The run on disk: its format, who writes it, and the one reader of it."""
