"""ContactSheet: what the network is to learn, drawn before it begins."""

from __future__ import annotations

from typing import final

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure

from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.data.rendering.nuisances import LIMITS, Nuisances
from lightning_emerge.data.synthetic import TokenDataModule
from lightning_emerge.engine.pictures import harmless, keep_picture
from lightning_emerge.engine.run_folder import run_folder
from lightning_emerge.figures.contact import Sheet, Span, draw_sheet

_COLUMNS = 10


@final
class ContactSheet(Callback):
    """Draws the contact sheet of the data into the run's folder (`exemplars.png`) and the loggers that show pictures.

    `lightning fit` has one always. Data modules that are not of this package have no sheet. One that cannot be drawn or
    written costs a warning.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = run_folder(trainer)  # a collective: every process asks
        data: object = getattr(trainer, "datamodule", None)
        kept = trainer.loggers and not trainer.fast_dev_run  # pyright: ignore[reportAttributeAccessIssue]
        if not (isinstance(data, ExemplarDataModule) and trainer.is_global_zero and kept):
            return
        with harmless("exemplars"):
            keep_picture(trainer, folder, "exemplars", contact_sheet(data))


def contact_sheet(data: ExemplarDataModule) -> Figure:
    """Draws training exemplars of each token and, of rendered tokens, parts and nuisances; `setup` comes first."""
    images = data.examples("train", _COLUMNS).numpy()
    size = data.image_size
    title = f"Training exemplars, {size} x {size} pixels"
    if not isinstance(data, TokenDataModule):
        return draw_sheet(Sheet(images, data.tokens, title))
    table = data.grammar.table()
    parts = [str(part) for part in table.parts]
    return draw_sheet(Sheet(images, data.tokens, title, parts, table.stands, _spans(data.nuisances)))


def _spans(nuisances: Nuisances) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    for name, value in nuisances.values().items():
        low, high = value if name == "scale" else (value if name == "noise" else 0.0, value)
        limit = LIMITS[name]
        spans[name] = Span(low, high, limit.lowest, limit.highest, limit.unit)
    return spans
