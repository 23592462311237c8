"""`lightning data` and `lightning sheet`: the exemplars out of the framework, and what they look like."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from tqdm import tqdm

from lightning_emerge.callbacks.contact import contact_sheet
from lightning_emerge.cli.errors import UserError, forgive
from lightning_emerge.cli.folders import make_folder
from lightning_emerge.cli.parser import Parser
from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.data.export import claim, export
from lightning_emerge.data.synthetic import TokenDataModule

_ELSE = ("seed_everything", "model", "trainer", "ckpt_path", "optimizer", "lr_scheduler")


def write_data(arguments: Sequence[str]) -> None:
    """Writes a configuration's exemplars as an image folder.

    Raises:
        UserError: if the arguments, the configuration or the folder are not as they have to be.
    """
    about = "Write the exemplars as an image folder, with latents and grammar."
    data, out = _read("data", about, "folder to write, or to complete", arguments)
    if not isinstance(data, TokenDataModule):
        raise UserError(f"`lightning data` writes rendered tokens; {type(data).__name__} reads images that are there.")
    make_folder(out)
    forgive(lambda: claim(data, out))
    total = sum(data.counts.values()) * len(data.tokens)
    with tqdm(total=total, unit="exemplar", dynamic_ncols=True) as bar:
        written = forgive(lambda: export(data, out, bar.update))
    print(f"{written} of {total} exemplars were written to {out}, the others were there; latents in latents.parquet")


def draw_sheet(arguments: Sequence[str]) -> None:
    """Draws a configuration's contact sheet.

    Raises:
        UserError: if the arguments or the configuration are not as they have to be.
    """
    about = "Draw the contact sheet: exemplars of each token, parts, nuisances."
    data, out = _read("sheet", about, "picture to write, such as sheet.png", arguments)
    if not isinstance(data, ExemplarDataModule):
        raise UserError(f"`lightning sheet` draws data modules of this package; {type(data).__name__} is none.")
    forgive(lambda: data.setup("fit"))
    make_folder(out.parent)
    forgive(lambda: contact_sheet(data).savefig(out))
    print(out)


def _read(command: str, about: str, out: str, arguments: Sequence[str]) -> tuple[LightningDataModule, Path]:
    """Makes the data of a configuration; its other sections may be there and are left alone."""
    parser = Parser(prog=f"lightning {command}", description=about)
    parser.add_argument("-c", "--config", action="config", help="a configuration, such as vgg5")
    parser.add_argument("--out", type=str, required=True, help=out)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    for name in _ELSE:
        parser.add_argument(f"--{name}", type=Any, help=SUPPRESS)
    wanted = parser.parse_args(list(arguments))
    return forgive(lambda: parser.instantiate(wanted), RuntimeError).data, Path(wanted.out)
