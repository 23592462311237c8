"""`lightning --help`: what the commands do, said without importing what they need."""

from __future__ import annotations

COMMANDS = {
    "init": "copy the configurations of the package into a folder, to change them",
    "fit": "train a network and watch how it comes to know what it knows",
    "validate": "measure a network on the validation exemplars",
    "test": "measure it on the test exemplars",
    "predict": "write a table of its predictions",
    "board": "open TensorBoard with the Emerge tab on a folder of runs",
    "replay": "look with probes at the checkpoints of a run",
    "report": "write a page about one run or several",
    "biography": "draw one filter of a run on one axis of steps",
    "embed": "lay the stimuli of a run out as points, by UMAP",
    "sheet": "draw exemplars, parts and nuisances",
    "data": "write the exemplars as an image folder",
}
"""What each command does."""


def say_commands() -> None:
    """Prints the commands."""
    print("usage: lightning COMMAND ...\n\nTrain a network and watch how it comes to know what it knows.\n")
    for name, about in COMMANDS.items():
        print(f"  {name:11}{about}")
    print(
        "\n`lightning COMMAND --help` lists a command's options; `lightning --version` says which version this is.\n"
        "Begin with: lightning fit --config vgg5"
    )
