"""Is one process of a loop of plain PyTorch, as torchrun's variables in the environment say.

python loop_ranks.py FOLDER     leaves FOLDER/alone, /plain and /fabric, and what a checkpoint keeps in FOLDER/watch.pt
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import lightning_emerge as le

STEPS, BATCH, TOKENS = 4, 8, 2
LABELS = torch.arange(BATCH) % TOKENS


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, TOKENS))


def make_batch(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(BATCH, 6, generator=generator) + LABELS[:, None]


def make_stimuli() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(31) % TOKENS
    return torch.randn(31, 6, generator=torch.Generator().manual_seed(9)) + labels[:, None], labels


def make_probes() -> list[le.Probe]:
    kinds = (le.CategoryProbe, le.SimilarityProbe, le.GradientProbe, le.TokenGradientProbe)
    return [kind(le.EverySteps(2), on_error="raise") for kind in kinds]


def train(network: Any, optimizer: Any, backward: Any, watch: Any, share: slice) -> None:
    """Trains on a process' share of each batch; process zero alone saves, as checkpoints are."""
    for step in range(STEPS):
        optimizer.zero_grad()
        backward(cross_entropy(network(make_batch(step)[share]), LABELS[share]))
        optimizer.step()
        watch.step()
        if share.start == 0 and step == 1:
            torch.save(watch.state_dict(), Path(watch.folder).parent / "watch.pt")


def run(folder: Path, rank: int, world: int) -> None:
    """A run of plain PyTorch in one process or several."""
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    trained = DistributedDataParallel(network) if world > 1 else network
    with le.watch(trained, make_probes(), make_stimuli(), folder, optimizer) as watch:
        train(trained, optimizer, torch.Tensor.backward, watch, slice(rank, None, world))


def run_fabric(folder: Path, rank: int, world: int) -> None:
    """The same in Fabric."""
    fabric = Fabric(accelerator="cpu", devices=world, strategy="ddp")
    fabric.launch()
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    network, optimizer = fabric.setup(network, optimizer)
    with le.watch(network, make_probes(), make_stimuli(), folder, optimizer) as watch:
        train(network, optimizer, fabric.backward, watch, slice(rank, None, world))


def main() -> None:
    folder, rank, world = Path(sys.argv[1]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if rank == 0:
        run(folder / "alone", 0, 1)
    dist.init_process_group("gloo")
    run(folder / "plain", rank, world)
    run_fabric(folder / "fabric", rank, world)
    found = le.look(make_network(), make_stimuli(), [le.CategoryProbe()])
    assert bool(found.data_vars) == (rank == 0)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
