"""Data: the grammar of tokens, rendering, photographs, and the data modules that give them to training."""
