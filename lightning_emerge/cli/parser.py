"""The parser of all commands, which says a mistake in one line."""

from __future__ import annotations

from argparse import Action
from typing import Any, NoReturn

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from lightning_emerge.cli.errors import UserError, explain

ANY_PARTS: dict[str, Any] = {
    "model_class": LightningModule,
    "datamodule_class": LightningDataModule,
    "subclass_mode_model": True,
    "subclass_mode_data": True,
    "auto_configure_optimizers": False,
}
"""Arguments of a `LightningCLI` whose configurations name any module and data module by `class_path`."""


class Parser(LightningArgumentParser):
    """Lightning's parser, whose mistakes are `UserError`s."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation would let a misspelt option through.
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        raise UserError(explain(message, _option_names(self)))


def _option_names(parser: Any) -> list[str]:
    actions: list[Action] = list(parser._actions)
    for action in parser._actions:
        if isinstance(action.choices, dict):
            actions += [inner for choice in action.choices.values() for inner in getattr(choice, "_actions", ())]
    return sorted({name[2:] for action in actions for name in action.option_strings if name.startswith("--")})
