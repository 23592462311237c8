"""Photographs: listed, decoded, dealt to splits, and given to training."""

from lightning_emerge.data.photographs.folder import FolderDataModule

__all__ = ["FolderDataModule"]
