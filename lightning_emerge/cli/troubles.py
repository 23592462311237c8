"""What may go wrong while a command runs and is the user's to mend: a disk that fails, another network's checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from errno import EACCES, EDQUOT, EIO, ENOENT, ENOSPC, ENOTDIR, EROFS

from lightning.pytorch.loggers import Logger

from lightning_emerge.cli.errors import UserError
from lightning_emerge.cli.folders import is_local
from lightning_emerge.store.places import to_local


def guard(run: Callable[[], object], loggers: Sequence[Logger]) -> None:
    """Runs what writes to a run's folder and loads a checkpoint.

    Args:
        run: what to run.
        loggers: of the trainer.

    Raises:
        UserError: if a disk fails, or the network is not the checkpoint's; it says what can be done.
    """
    try:
        run()
    except OSError as error:
        said = _explain_disk(error, loggers)
        if said is None:
            raise
        raise UserError(said) from error
    except RuntimeError as error:
        if "Error(s) in loading state_dict" not in str(error):
            raise
        raise UserError(say_other_network("the one given", str(error).strip().splitlines()[-1].strip())) from error


def say_other_network(path: str, wrong: str) -> str:
    """Says that a checkpoint is another network's, and what to do.

    Args:
        path: of the checkpoint.
        wrong: the first difference.
    """
    return (
        f"A checkpoint is of the network that the configuration makes; {path} is not: {wrong}. Give the configuration "
        "of its own run, which is config.yaml in that run's folder, or begin a new run without --ckpt_path."
    )


def _explain_disk(error: OSError, loggers: Sequence[Logger]) -> str | None:
    """Says of a disk that fails what can be done; None of other errors of the system."""
    gone = [found.log_dir for found in loggers if is_local(found) and not os.path.isdir(to_local(str(found.log_dir)))]
    if gone and error.errno in (ENOENT, ENOTDIR):
        return (
            f"A run writes to its folder until it ends; {gone[0]} is not there any more ({error}). If it was renamed, "
            "what was written before is there, and --ckpt_path goes on from its checkpoints/last.ckpt."
        )
    if error.errno not in (ENOSPC, EROFS, EDQUOT, EACCES, EIO):
        return None
    full = error.errno in (ENOSPC, EDQUOT)
    mend = "Free space, and go on with --ckpt_path last." if full else "Give the run a folder that can be written."
    return (
        f"A run writes to its folder, which the disk refused ({error}). What was written before is still there. {mend}"
    )
