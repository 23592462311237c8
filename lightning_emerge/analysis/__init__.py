"""Analysis across steps and runs, from records alone."""
