"""`python -m lightning_emerge` is the command `lightning`."""

from lightning_emerge.cli import main

main()
