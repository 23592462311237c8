"""`lightning biography`: one filter of a run, from its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_emerge.analysis.biography import read_biography
from lightning_emerge.cli.errors import PlainParser, forgive
from lightning_emerge.cli.folders import make_folder
from lightning_emerge.figures.biography import draw_biography
from lightning_emerge.figures.canvas import to_png
from lightning_emerge.store.folder import Folder


def draw(arguments: Sequence[str]) -> None:
    """Draws the biography of one filter.

    Raises:
        UserError: if the arguments or the records are not as they have to be.
    """
    parser = PlainParser(
        "lightning biography",
        "`lightning biography RUN --layer NAME --filter N` draws one filter of a run",
        "Draw one filter of a run on one axis of steps.",
    )
    parser.add_argument("run", help="folder of the run, such as runs/vgg5/version_0")
    parser.add_argument("--layer", required=True, help="name of the filter's layer, such as conv3_2")
    parser.add_argument("--filter", type=int, required=True, help="number of the filter in its layer, from 0")
    parser.add_argument("--out", help="picture to write (default: <layer>_<filter>.png in the run's folder)")
    wanted = parser.parse_args(arguments)
    biography = forgive(lambda: read_biography(wanted.run, wanted.layer, wanted.filter), RuntimeError)
    figure = forgive(lambda: draw_biography(biography), RuntimeError)
    if wanted.out:
        make_folder(Path(wanted.out).parent)
        forgive(lambda: figure.savefig(wanted.out))
        print(Path(wanted.out))
    else:
        name = f"{wanted.layer}_{wanted.filter}.png".replace("/", "_")
        forgive(lambda: Folder(wanted.run).put(name, to_png(figure)))
        print(Path(wanted.run, name))
