"""`python -m lightning_emerge` is the command `lightning`."""

import os
import sys

if not sys.flags.safe_path and sys.path[0] == os.getcwd():
    del sys.path[0]  # Python puts it first; a user's umap.py must not hide the library

from lightning_emerge.cli import main

main()
