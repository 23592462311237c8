"""`lightning replay`: probes over the checkpoints of a run that is over."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.tensorboard.writer import SummaryWriter
from tqdm import tqdm

from lightning_emerge.capture.needs.base import complete
from lightning_emerge.cli.errors import UserError, forgive
from lightning_emerge.cli.parser import ANY_PARTS
from lightning_emerge.cli.quiet import hold_messages, silence_warnings
from lightning_emerge.cli.trust import HELP, trusting
from lightning_emerge.engine.bank import find_bank
from lightning_emerge.engine.replay import load_weights, replay
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.engine.thumbnails import keep_thumbnails
from lightning_emerge.engine.weight_files import list_checkpoints
from lightning_emerge.probe import Probe, probes_of
from lightning_emerge.sinks.tensorboard import TensorBoardSink
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.places import is_url
from lightning_emerge.store.write import ArraySink

_ABOUT = (
    "Look with a configuration's probes at the checkpoints of a run. A configuration is a program: what it names is "
    "imported and run. Of one in a run's folder only what --only allows is."
)


def run_replay(arguments: Sequence[str]) -> None:
    """Looks with a configuration's probes at the checkpoints in a folder.

    Raises:
        UserError: if the arguments, the configuration or the checkpoints are not as they have to be.
    """
    silence_warnings()
    held = hold_messages()
    with trusting(arguments) as parser:
        cli = _ReplayCLI(
            **ANY_PARTS,
            save_config_callback=None,
            parser_class=parser,
            parser_kwargs={"prog": "lightning replay", "description": _ABOUT},
            run=False,
            args=list(arguments),
        )
    folder = Path(cli.config["checkpoints"])
    if not folder.is_dir():
        raise UserError(
            f"--checkpoints is a folder of checkpoints, such as runs/vgg5/version_0/checkpoints; {folder} is none."
        )
    said: list[str] = []
    checkpoints = forgive(lambda: list_checkpoints(folder, said.append))
    prefix = cli.config["prefix"]
    probes, left_out = _choose(probes_of(cli.trainer))
    out = _choose_out(cli.config["out"], folder)
    forgive(cli.prepare)
    bank = forgive(lambda: find_bank(cli.trainer, probes))
    first, whose = next(iter(checkpoints.values())), "that the configuration makes"
    forgive(lambda: load_weights(cli.model, first, prefix, whose=whose))  # before anything is written
    for probe in probes:
        forgive(lambda probe=probe: probe.check(cli.model))
    sinks = forgive(lambda: Sinks([ArraySink(f"{out}/{STORE}", None)], [TensorBoardSink(SummaryWriter(str(out)))]))
    for board in sinks.boards:
        board.announce(0)
    if bank is not None:
        forgive(lambda: keep_thumbnails(str(out), bank))
    held.release()
    quiet = cli.trainer.progress_bar_callback is None
    with tqdm(total=len(checkpoints), unit="checkpoint", dynamic_ncols=True, disable=quiet) as bar:
        conductor = forgive(lambda: replay(cli.model, probes, bank, checkpoints, sinks, bar.update, prefix))
    for sentence in (*said, *(f"{name}, which needs the training batch" for name in left_out)):
        print(f"Left out  {sentence}")
    for probe in probes:
        if probe.failed_at is not None:
            print(f"Failed    {type(probe).__name__} is off since step {probe.failed_at}")
    print("\n".join(conductor.costs.table()))
    print(f"Records   {len(checkpoints)} checkpoints, steps {min(checkpoints)} to {max(checkpoints)}, in {out}/{STORE}")
    print(f"Look      lightning board {out}")


class _ReplayCLI(LightningCLI):
    """Makes model, data and probes of a configuration as for a fit, and nothing else."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--checkpoints", type=str, required=True, help="folder of checkpoints")
        parser.add_argument(
            "--prefix", type=str, default="", help="what names of weights begin with in checkpoints alone"
        )
        parser.add_argument(
            "--out",
            type=str,
            default=None,
            help="folder for the records; replay_N beside the checkpoints if none is given",
        )
        parser.add_argument("--only", type=str, default=None, metavar="MODULES", help=HELP)
        parser.add_argument("--ckpt_path", type=Any, help=SUPPRESS)  # a configuration that a run has saved has it

    def instantiate_classes(self) -> None:
        forgive(super().instantiate_classes, RuntimeError)

    def prepare(self) -> None:
        """Sets data and model up as a fit does before it restores a checkpoint."""
        trainer, model, data = self.trainer, self.model, self.datamodule
        model.trainer = trainer
        if data is not None:
            trainer.datamodule = data  # pyright: ignore[reportAttributeAccessIssue]
            data.trainer = trainer
            data.prepare_data()
            data.setup("fit")
        model.setup("fit")
        if is_overridden("configure_model", model, LightningModule):
            model.configure_model()
        # The fit's precision and device, since measurements depend on both.
        trainer.precision_plugin.convert_module(model)
        model.to(trainer.strategy.root_device)


def _choose(probes: Sequence[Probe]) -> tuple[list[Probe], list[str]]:
    training = [any(need.training for need in complete(probe.needs)) for probe in probes]
    chosen = [probe for probe, trains in zip(probes, training, strict=True) if not trains]
    left_out = [type(probe).__name__ for probe, trains in zip(probes, training, strict=True) if trains]
    if not chosen:
        raise UserError(
            "A replay looks with the probes among trainer.callbacks that do not need the training batch; there "
            f"{'is none' if not left_out else 'is only ' + ', '.join(left_out)}."
        )
    return chosen, left_out


def _choose_out(given: str | None, checkpoints: Path) -> str:
    if given is None:
        beside = checkpoints.resolve().parent
        with suppress(ValueError):
            beside = beside.relative_to(Path.cwd())
        return str(next(path for path in (beside / f"replay_{number}" for number in count()) if not path.exists()))
    if not is_url(given) and (Path(given) / STORE).exists():
        raise UserError(f"--out is a folder without records; {given} has some. Name another, or remove it.")
    return given
