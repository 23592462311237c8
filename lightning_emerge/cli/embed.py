"""`lightning embed`: the stimuli of a run as points in a plane, from its records."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_emerge.analysis.embedding import draw_embedding, embed_run
from lightning_emerge.cli.errors import PlainParser, UserError, forgive
from lightning_emerge.figures.canvas import to_png
from lightning_emerge.store.folder import Folder


def embed(arguments: Sequence[str]) -> None:
    """Lays the stimuli of a run out by UMAP and by principal components, and keeps points and picture in its folder.

    Raises:
        UserError: if the arguments or the records are not as they have to be.
    """
    parser = PlainParser(
        "lightning embed",
        "`lightning embed RUN` lays the stimuli of a run out as points, by UMAP",
        "Lay the stimuli of a run out as points, by UMAP and by principal components, from what an EmbeddingProbe "
        "recorded. It can be called while the run goes on.",
    )
    parser.add_argument("run", help="folder of the run, such as runs/vgg5/version_0")
    parser.add_argument("--looks", type=int, default=20, help="looks at most, evenly chosen (default: 20)")
    parser.add_argument("--neighbours", type=int, default=15, help="neighbours of each stimulus (default: 15)")
    wanted = parser.parse_args(arguments)
    for name, least in (("looks", 1), ("neighbours", 2)):
        if getattr(wanted, name) < least:
            raise UserError(f"--{name} is at least {least}; got {getattr(wanted, name)}.")
    figure = forgive(lambda: draw_embedding(embed_run(wanted.run, wanted.looks, wanted.neighbours)), RuntimeError)
    forgive(lambda: Folder(wanted.run).put("embedding.png", to_png(figure)))
    print(f"{wanted.run.rstrip('/')}/embedding.png")
