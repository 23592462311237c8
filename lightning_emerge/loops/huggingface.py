"""`WatchCallback`: probes in Hugging Face's Trainer. Imported from here alone, as it needs `transformers`."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, nan
from pathlib import Path
from typing import Any

import torch

from lightning_emerge.engine.loop import STEP, Loop
from lightning_emerge.engine.session import refuse_sharding
from lightning_emerge.engine.training_loss import name_followers
from lightning_emerge.loops.parts import check_probes
from lightning_emerge.loops.watch import watch
from lightning_emerge.probe import Probe

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(
        "WatchCallback is for Hugging Face's Trainer, which is not installed. Install transformers and accelerate, or "
        "use lightning_emerge.watch."
    ) from error

FILE = "watch.pt"
"""What is left in a checkpoint's folder."""


class WatchCallback(TrainerCallback):
    """Has probes look at a model while Hugging Face's Trainer trains it.

    ::

        Trainer(..., callbacks=[WatchCallback([le.CategoryProbe()], stimuli)])

    Each checkpoint gets a `watch.pt`, from which a run that resumes goes on with its records. Gradients are seen after
    they are clipped, as the optimizer gets them.

    Args:
        probes: what looks.
        stimuli: as for `watch`.
        folder: of the run, or an fsspec URL; the Trainer's `output_dir` if none is given.
        loggers: as for `watch`.

    Attributes:
        loop: that of the training in progress or of the last one; None before the first.
    """

    def __init__(
        self, probes: Sequence[Probe], stimuli: Any = None, folder: str | Path | None = None, *, loggers: Any = ()
    ) -> None:
        self.loop: Loop | None = None
        self._probes, self._stimuli, self._folder, self._loggers = check_probes(probes), stimuli, folder, loggers

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.close()  # an earlier training may have failed, of which callbacks are not told
        _check_logging(args, name_followers([probe.schedule for probe in self._probes]))
        refuse_sharding(name for name in ("fsdp", "deepspeed") if getattr(args, name, None))
        self.loop = watch(
            given["model"],
            self._probes,
            self._stimuli,
            self._folder or args.output_dir,
            given["optimizer"],
            steps_per_epoch=_steps_per_epoch(args, given.get("train_dataloader")),
            loggers=self._loggers,
        )
        if state.global_step:
            self.loop.load_state_dict(_read(args, state.global_step))
        self.loop.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.loop is not None:
            self.loop.step(state.global_step, loss=nan)  # which the Trainer says only now
            self._look_if_last(state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        if self.loop is not None and self.loop.steps == state.global_step and "loss" in (logs or {}):
            self.loop.amend_loss(logs["loss"])

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        folder = _checkpoint(args, state.global_step)
        self._look_if_last(state, control)
        if self.loop is not None and state.is_world_process_zero and folder.is_dir():
            torch.save(self.loop.state_dict(), folder / FILE)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.loop is not None:
            logged = [(name, value) for row in state.log_history for name, value in row.items()]
            self.loop.metrics.update({name: value for name, value in logged if isinstance(value, int | float)})
            try:
                self.loop.end(look=not args.load_best_model_at_end)  # which has put others in the weights' place
            finally:
                self.close()

    def _look_if_last(self, state: Any, control: Any) -> None:
        if self.loop is not None and (control.should_training_stop or state.global_step >= state.max_steps):
            self.loop.look_last()

    def close(self) -> None:
        """Writes what is left of a training that failed, and lets go of its model."""
        if self.loop is not None:
            self.loop.close()


def _check_logging(args: Any, follower: str) -> None:
    if follower and not (args.logging_strategy == "steps" and args.logging_steps == 1):
        raise ValueError(
            f"{follower} follows the training loss, which the Trainer says when it logs, and so at each step with "
            "logging_strategy='steps' and logging_steps=1; got "
            f"'{getattr(args.logging_strategy, 'value', args.logging_strategy)}' and {args.logging_steps}. Set them, "
            "or give probes another schedule."
        )


def _steps_per_epoch(args: Any, batches: Any) -> float | None:
    try:
        return ceil(len(batches) / args.gradient_accumulation_steps)
    except TypeError:  # a stream, whose length nobody knows
        return None


def _checkpoint(args: Any, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"


def _read(args: Any, step: int) -> dict[str, Any]:
    """What an earlier training has left at a step; the step alone if there is no more."""
    file = _checkpoint(args, step) / FILE
    return torch.load(file, weights_only=True) if file.is_file() else {STEP: step}
