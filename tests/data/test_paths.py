"""What users' configurations name by its module: it stays where they name it."""

from __future__ import annotations

from importlib import import_module

import pytest

import lightning_emerge as le


@pytest.mark.parametrize(
    "module", ["synthetic.TokenDataModule", "photographs.FolderDataModule", "vision.VisionDataModule"]
)
def test_a_data_module_is_found_by_its_path_and_by_its_name(module):
    home, name = f"lightning_emerge.data.{module}".rsplit(".", 1)
    assert getattr(import_module(home), name) is getattr(le, name)
