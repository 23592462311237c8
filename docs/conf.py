"""Sphinx configuration: `make docs`."""

from importlib.metadata import version as installed

project = "lightning_emerge"
author = "the lightning_emerge developers"
project_copyright = "2026, the lightning_emerge developers"
release = version = installed("lightning_emerge")

extensions = ["myst_parser", "sphinx.ext.autosectionlabel", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = False

html_theme = "furo"
html_title = f"lightning_emerge {release}"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
autosectionlabel_prefix_document = True

napoleon_google_docstring = True
napoleon_numpy_docstring = False

autodoc_inherit_docstrings = False  # Lightning documents its own hooks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
