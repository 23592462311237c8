"""What others take for a look: cockpit's economy set and wandb's histograms, on the same network."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import torch
from looks import Watch
from parts import DEFAULT, make_data, make_model, read_probes
from table import Row, timed
from torch import nn
from torch.nn.functional import cross_entropy

import lightning_emerge as le

_COCKPIT = Row(
    "rivals",
    "a look of all default probes",
    "a step with cockpit's economy set, less a plain step",
    bar=1,
    why="cockpit takes each exemplar's own gradient in the training batch of 32; it is not asked to draw or to write.",
)
_WANDB = Row(
    "rivals",
    "a look of all default probes",
    "a step with wandb.watch(log='all'), offline, less a plain step",
    bar=1,
    why="wandb makes histograms of weights and gradients alone; it looks at no stimulus and draws nothing.",
)
_ALIKE = replace(
    _WANDB,
    figure="a look of GradientProbe and FilterProbe",
    why="These look at weights and gradients, as wandb does, and draw the first layer's filters.",
)


def bench_cockpit(rounds: int) -> Iterator[Row]:
    """A look over one of cockpit's."""
    if find_spec("cockpit") is None:
        yield replace(_COCKPIT, note="not installed: pip install cockpit-for-pytorch 'setuptools<80'")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield _compared(_COCKPIT, _default(), _cockpit_step(), rounds)


def bench_wandb(rounds: int) -> Iterator[Row]:
    """A look over one of wandb's: all that ours sees, and what both see."""
    if find_spec("wandb") is None:
        yield from (replace(row, note="not installed: pip install wandb") for row in (_WANDB, _ALIKE))
        return
    for row, wanted in ((_WANDB, _default()), (_ALIKE, ("GradientProbe", "FilterProbe"))):
        with _wandb_step() as step:
            yield _compared(row, wanted, step, rounds)


def _compared(row: Row, wanted: Sequence[str], theirs: Callable[[], None], rounds: int) -> Row:
    """Times our look, their step and a plain step in turn."""
    plain = _plain_step()
    looking = read_probes(DEFAULT, schedule=le.EverySteps(1))
    with Watch([probe for probe in looking if type(probe).__name__ in wanted]) as watch:
        for warm in (watch, theirs, plain):
            warm()
        times = [(timed(watch), timed(theirs), timed(plain)) for _ in range(max(rounds, 3))]
    ours, tracked, bare = (statistics.median(column) for column in zip(*times, strict=True))
    look = tracked - bare
    if look <= 0:
        return replace(row, note="their step took no longer than a plain one; the machine is too busy to tell")
    return replace(row, value=ours / look, ms=1000 * ours, against_ms=1000 * look)


def _default() -> list[str]:
    return [type(probe).__name__ for probe in read_probes(DEFAULT)]


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    bank = make_data().stimulus_bank()
    return bank.images[::7][:32], bank.labels[::7][:32]


def _flat() -> nn.Sequential:
    """The default network as one sequence, which is what BackPACK goes through."""
    network, (images, _) = make_model().network, _batch()
    flat = nn.Sequential(*[layer for layer in network.modules() if not list(layer.children())])
    torch.testing.assert_close(flat(images), network(images))
    return flat


def _plain_step() -> Callable[[], None]:
    network, (images, labels) = _flat(), _batch()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def _cockpit_step() -> Callable[[], None]:
    from backpack import extend
    from cockpit import Cockpit
    from cockpit.utils.configuration import configuration

    network, (images, labels) = extend(_flat()), _batch()
    mean, each = extend(nn.CrossEntropyLoss()), extend(nn.CrossEntropyLoss(reduction="none"))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
    cockpit = Cockpit(network.parameters(), quantities=configuration("economy"))
    taken = 0

    def step() -> None:
        nonlocal taken
        optimizer.zero_grad()
        answers = network(images)
        loss = mean(answers, labels)
        info: dict[str, Any] = {"batch_size": len(images), "individual_losses": each(answers, labels)}
        with cockpit(taken, info={**info, "loss": loss, "optimizer": optimizer}):
            loss.backward(create_graph=cockpit.create_graph(taken))
        optimizer.step()
        taken += 1

    return step


@contextmanager
def _wandb_step() -> Iterator[Callable[[], None]]:
    import wandb

    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        settings = wandb.Settings(silent=True, console="off")
        run = stack.enter_context(wandb.init(mode="offline", dir=folder, project="bench", settings=settings))
        network, (images, labels) = _flat(), _batch()
        run.watch(network, log="all", log_freq=1)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)

        def step() -> None:
            optimizer.zero_grad()
            loss = cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            run.log({"loss": loss.item()})

        yield step
        run.unwatch(network)
