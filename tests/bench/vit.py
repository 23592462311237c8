"""A look at a transformer over one forward pass, and the capture of its layers beside TorchLens'."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from looks import Watch
from parts import DEFAULT, forward, read_probes
from rates import passing
from table import Row, compared, summarised, timed
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import first_stimuli, run_bank
from lightning_emerge.capture.needs import Activations

_LOOK = Row(
    "looks",
    "a look of all default probes at a ViT-tiny of 12 blocks",
    "one forward pass of the bank",
    bar=4,
    why="All blocks and the head are looked at, with every position of every block.",
)
_CAPTURE = Row(
    "rivals",
    "capture of a ViT-tiny's 12 blocks",
    "TorchLens' extract of them",
    bar=1,
    why="TorchLens logs every operation on the way; ours hooks the layers and passes 32 stimuli at a time.",
)
_PEAK = Row(
    "rivals",
    "peak memory of capturing a ViT-tiny's 12 blocks, beyond a plain pass",
    "that of TorchLens' extract",
    bar=1,
    why="Both keep the blocks' outputs, 150 MB of them; TorchLens also keeps what it says of each operation.",
)
_BLOCKS = [f"blocks.{number}" for number in range(12)]


def bench_vit(rounds: int) -> Iterator[Row]:
    """A look at a transformer, and its capture beside TorchLens' in time and memory."""
    network, bank = make_vit(), make_bank()
    probes = [type(probe)(schedule=le.EverySteps(1), on_error="raise") for probe in read_probes(DEFAULT)]
    with Watch(probes, network, bank) as watch:
        row = replace(_LOOK, floor=passing(network, bank.inputs, 1))
        yield compared(row, watch, partial(forward, network, bank.inputs), rounds)
    if find_spec("torchlens") is None:
        yield from (replace(row, note="not installed: pip install torchlens") for row in (_CAPTURE, _PEAK))
        return
    yield summarised(_CAPTURE, [_pair(network, bank) for _ in range(rounds)])
    plain, ours, theirs = (_peak(kind) for kind in ("plain", "ours", "theirs"))
    note = f"{ours - plain:.0f} MiB against {theirs - plain:.0f}"
    yield replace(_PEAK, value=(ours - plain) / (theirs - plain), note=note)


def make_vit() -> nn.Module:
    """A ViT-tiny for images of 32 x 32: 12 blocks of width 192 over 64 patches."""
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=5)


def make_bank() -> le.StimulusBank:
    """250 images."""
    images = torch.randn(250, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return le.StimulusBank(images, torch.arange(250) % 5, tuple(map(str, range(250))), tuple("abcde"))


def _ours(network: nn.Module, bank: le.StimulusBank) -> None:
    run_bank(network, bank, {Activations(): _BLOCKS})


def _theirs(network: nn.Module, bank: le.StimulusBank) -> None:
    import torchlens

    with torch.no_grad():
        network.eval()
        torchlens.extract(network, bank.inputs, _BLOCKS)


def _pair(network: nn.Module, bank: le.StimulusBank) -> tuple[float, float]:
    """Our time and theirs. That TorchLens wraps torch's functions at its first call is not counted."""
    from torchlens.backends.torch.wrappers import unwrap_torch

    ours = timed(partial(_ours, network, bank))
    _theirs(network, first_stimuli(bank, 1))
    theirs = timed(partial(_theirs, network, bank))
    unwrap_torch()
    return ours, theirs


def _peak(kind: str) -> float:
    """Peak resident memory in MiB of a capture in a process of its own."""
    command = [sys.executable, __file__, kind]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


if __name__ == "__main__":
    with suppress(ImportError):
        import torchlens  # noqa: F401 - so that all have imported the same
    work = {"plain": lambda network, bank: forward(network, bank.inputs), "ours": _ours, "theirs": _theirs}
    work[sys.argv[1]](make_vit(), make_bank())
    # Not getrusage, whose peak counts from that of the process which started this one.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(int(peak.split()[1]) / 1024)
