"""Doors to the engine for whoever trains without Lightning's Trainer: a loop, one look, Hugging Face's Trainer."""
