"""Rendering: what exemplars of tokens show, and their images, masks and latents."""
