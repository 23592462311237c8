"""`lightning report`: a page about one run, or several side by side."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_emerge.cli.errors import PlainParser, UserError, forgive
from lightning_emerge.report.make import make_report
from lightning_emerge.report.write import check_folder, write_report
from lightning_emerge.store.places import is_url


def report_on(arguments: Sequence[str]) -> None:
    """Writes the report of some runs and says where it is, and what is missing.

    Raises:
        UserError: if the arguments, the runs or the folder are not as they have to be.
    """
    parser = PlainParser(
        "lightning report",
        "`lightning report RUN [RUN ...] [--out DIR]` writes a page about one run, or several side by side",
        "Write one page about a run, or several side by side, from what lies in their folders.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, such as runs/vgg5/version_0")
    parser.add_argument(
        "--out", help="folder to write (default: report in the run's folder; of several runs, ./report)"
    )
    wanted = parser.parse_args(arguments)
    out = wanted.out or _place(wanted.runs)
    forgive(lambda: check_folder(out))  # before the work, which takes a while
    report = forgive(lambda: make_report(wanted.runs))
    print(forgive(lambda: write_report(report, out)))


def _place(runs: Sequence[str]) -> str:
    """Where the report goes if nothing is said."""
    if len(runs) > 1:
        return "report"
    if is_url(runs[0]):
        raise UserError(
            f"A report is written to this machine's disks; {runs[0]} lies elsewhere. Name a folder: --out DIR"
        )
    return f"{runs[0].rstrip('/')}/report"
