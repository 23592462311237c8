"""Parts of tokens: filters that know nothing of them, or detect them, and networks that go by such filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from math import nan, sqrt

import numpy as np
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import one_hot

import lightning_emerge as le
from lightning_emerge.data.rendering.latents import scenes_of
from lightning_emerge.data.rendering.render import part_masks
from lightning_emerge.measures.parts import Features, features_of
from lightning_emerge.measures.rivals import rival_sets
from lightning_emerge.records.names import split_tokens
from trials.common import LABELS, OWN, STIMULI, TOKENS, Array, Row, Trial, mean, random, rendered

LAYER = "layer"
FILTERS, DETECTORS = 40, 2  # detectors of each part: the twentieth of the filters that an ablation silences
STRENGTH = 2.0  # by how many standard deviations a filter says more where its part is


@cache
def parts() -> Features:
    return features_of(rendered()).of_kind("part")


@cache
def rivals() -> Tensor:
    """Which stimuli (stimulus, rival) are of sets of tokens that have no part to themselves."""
    numbers = [frozenset(rendered().tokens.index(one) for one in split_tokens(own)) for own in parts().tokens]
    return torch.stack([torch.isin(LABELS, torch.tensor(one)) for one in rival_sets(numbers, TOKENS)], dim=1)


def detecting(seed: int, strength: float, *, others: bool = False) -> Tensor:
    """Responses of filters, the first of which detect the parts, two each; or the others rivals of parts."""
    responses = random(STIMULI, FILTERS, seed=seed)
    held, first = parts().held, DETECTORS * len(parts().names)
    where = slice(0, first)
    if others:
        held, where = rivals(), slice(first, first + DETECTORS * rivals().shape[1])
    responses[:, where] += strength * held.float().repeat_interleave(DETECTORS, dim=1)
    return responses


class Glass:
    """A network whose images are the layer's responses."""

    def __init__(self, readout: Tensor | None = None) -> None:
        self.readout = torch.zeros(FILTERS, TOKENS) if readout is None else readout

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.readout

    def respond(self, _layer: str, images: Tensor) -> Tensor:
        return images.flatten(1)

    def intervene(self, _layer: str, change: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        return change(images.flatten(1)) @ self.readout


def told(seed: int, strength: float, *, others: bool = False) -> le.Capture:
    return le.Capture(0, (LAYER,), rendered(), activations={LAYER: detecting(seed, strength, others=others)})


def of_parts() -> Trial:
    every = features_of(rendered())
    single = [number for number, kind in enumerate(every.kinds) if kind == "part"]
    one, pair = (float(norm.cdf(STRENGTH * sqrt(count) / sqrt(2))) for count in (1, DETECTORS))
    linear = _linear_auc()
    best = np.arange(len(single)) * DETECTORS

    def right(values: Array) -> float:
        found = values[0, single]
        return float(((found >= best) & (found < best + DETECTORS)).mean())

    def own(values: Array) -> float:
        return mean(np.array([values[0, best[k], feature] for k, feature in enumerate(single)]))

    return Trial(
        lambda _: le.PartProbe(attributed=0),
        partial(told, strength=0.0),
        partial(told, strength=STRENGTH),
        "filters of noise",
        f"two filters for each part, apart by {STRENGTH:g} standard deviations",
        (
            Row("part_auc", 0.5, linear, lambda values: mean(values[0, single])),
            Row("part_filter_auc", 0.5, one, lambda values: mean(values[0, single])),
            Row("part_transfer", 0.5, pair, lambda values: mean(values[0, single])),
            Row("filter_part_auc", 0.5, one, own),
            Row("part_best_filter", DETECTORS / FILTERS, 1.0, right),
        ),
    )


def _linear_auc() -> float:
    """Of a linear read-out of parts that was fitted to very many stimuli, in as many others."""
    fits, tests = (
        torch.cat([detecting(start + k, STRENGTH) for k in range(200)]).numpy() for start in (20_000, 30_000)
    )
    held = parts().held.repeat(200, 1).numpy()
    scores = tests @ np.linalg.lstsq(fits - fits.mean(axis=0), held - held.mean(axis=0), rcond=None)[0]
    return float(np.mean([roc_auc_score(held[:, k], scores[:, k]) for k in range(held.shape[1])]))


def of_rivals() -> Trial:
    first = DETECTORS * len(parts().names)

    def own(values: Array) -> float:
        return mean(np.array([values[0, first + DETECTORS * rival, rival] for rival in range(values.shape[2])]))

    return Trial(
        lambda _: le.PartProbe(attributed=0),
        partial(told, strength=0.0),
        partial(told, strength=STRENGTH, others=True),
        "filters of noise",
        f"two filters for each rival of parts, apart by {STRENGTH:g} standard deviations",
        (Row("filter_rival_auc", 0.5, float(norm.cdf(STRENGTH / sqrt(2))), own),),
    )


# What a part's best filter looks at.


@cache
def masks() -> Tensor:
    """Where the first part of the grammar is seen in each stimulus (stimulus, y, x)."""
    bank, own = rendered(), parts().appearances[0]
    assert bank.latents is not None
    found = torch.zeros(STIMULI, *bank.images.shape[-2:])
    for _, table in bank.latents.groupby("token", sort=False):
        seen = torch.from_numpy(part_masks(scenes_of(table), bank.images.shape[-1]))
        for row, position in enumerate(table.index):
            for part in range(seen.shape[1]):
                if str(table[f"part{part}_appearance"].iloc[row]) in own:
                    found[int(position)] += seen[row, part]
    return found


class Pixels:
    """A network whose layer has one filter, which sees all pixels alike."""

    def respond(self, _layer: str, images: Tensor) -> Tensor:
        return images.square().mean(dim=(1, 2, 3), keepdim=True)


def looked_at(seed: int, inside: bool) -> le.Capture:
    bank = rendered()
    images = random(*bank.images.shape, seed=seed) * (masks()[:, None] if inside else 1)
    own = le.StimulusBank(images, bank.labels, bank.ids, bank.tokens, bank.latents)
    network = Pixels()
    return le.Capture(0, (LAYER,), own, activations={LAYER: network.respond("", images)}, network=network)


def of_attributions() -> Trial:
    chosen = parts().held[:, 0].nonzero()[:, 0]
    count = 8
    chosen = chosen[torch.arange(count) * len(chosen) // count]
    there = masks()[chosen]
    inside = (there**3).sum(dim=(1, 2)) / (there**2).sum(dim=(1, 2))  # edges count as far as they are inside
    truth = float(inside[there.any(dim=2).any(dim=1)].mean() / there.mean())
    return Trial(
        lambda _: le.PartProbe(attributed=count),
        partial(looked_at, inside=False),
        partial(looked_at, inside=True),
        "a filter of all pixels, on images of noise",
        "images that are grey beside one part",
        (Row("part_attribution", 1.0, truth, lambda values: float(values[0, 0, 0, 0])),),
    )


# What a network loses without a part's detectors.


def wired(seed: int, *, used: bool, others: bool = False, strength: float = STRENGTH) -> le.Capture:
    """Detectors of parts, or of their rivals, that outputs go by, or that they do not."""
    responses, weight = detecting(seed, strength, others=others), readout(used=used, others=others)
    bank = rendered()
    return le.Capture(
        0,
        (LAYER,),
        le.StimulusBank(responses[:, :, None, None], bank.labels, bank.ids, bank.tokens, bank.latents),
        activations={LAYER: responses},
        outputs=responses @ weight,
        network=Glass(weight),
    )


@cache
def readout(*, used: bool, others: bool = False) -> Tensor:
    """Each detector speaks for the tokens that it fires for; or filters that detect nothing speak for any."""
    weight, first = torch.zeros(FILTERS, TOKENS), DETECTORS * len(parts().names)
    held, where = (rivals(), slice(first, FILTERS)) if others else (parts().held, slice(0, first))
    if used:
        weight[where] = held[:: STIMULI // TOKENS].T.float().repeat_interleave(DETECTORS, dim=0)
    elif not others:
        weight[first:] = 0.5 * random(FILTERS - first, TOKENS, seed=905)
    return weight


def _drops(sets: Sequence[Sequence[int]], *, used: bool, others: bool = False) -> float:
    """How far the probability of the right token falls without sets of filters, in very many stimuli."""
    repeats = 100
    rows = torch.cat([detecting(40_000 + k, STRENGTH, others=others) for k in range(repeats)])
    labels, weight = LABELS.repeat(repeats)[:, None], readout(used=used, others=others)
    sure = (rows @ weight).softmax(dim=1).gather(1, labels).mean()
    left: list[Tensor] = []
    for silenced in sets:
        changed = rows.clone()
        changed[:, list(silenced)] = rows[:, list(silenced)].mean(dim=0)
        left.append((changed @ weight).softmax(dim=1).gather(1, labels).mean())
    return float(sure - torch.stack(left).mean())


def _pairs(first: int, count: int) -> list[list[int]]:
    return [[first + DETECTORS * k, first + DETECTORS * k + 1] for k in range(count)]


def of_ablation() -> Trial:
    count = len(parts().names)
    lots = torch.randperm(FILTERS, generator=torch.Generator().manual_seed(0)).split(DETECTORS)[:5]
    controls = [_drops([lot.tolist() for lot in lots], used=used) for used in (False, True)]
    return Trial(
        lambda _: le.AblationProbe(),
        partial(wired, used=False),
        partial(wired, used=True),
        "detectors of parts that outputs do not go by",
        "detectors of parts that outputs go by",
        (
            Row("ablation_drop", 0.0, _drops(_pairs(0, count), used=True)),
            Row("ablation_control", controls[0], controls[1]),
        ),
    )


def of_detectors() -> Trial:
    wanted = np.arange(len(parts().names))[:, None] * DETECTORS

    def right(values: Array) -> float:
        found = values[0]
        return nan if np.isnan(found).any() else float(((found >= wanted) & (found < wanted + DETECTORS)).mean())

    return Trial(
        lambda _: le.AblationProbe(),
        partial(wired, used=True, strength=0.0),
        partial(wired, used=True),
        "filters of noise",
        f"two filters for each part, apart by {STRENGTH:g} standard deviations",
        (Row("ablation_filter", None, 1.0, right),),
    )


def of_rival_ablation() -> Trial:
    first, count = DETECTORS * len(parts().names), rivals().shape[1]
    return Trial(
        lambda _: le.AblationProbe(),
        partial(wired, used=False, others=True),
        partial(wired, used=True, others=True),
        "detectors of rivals that outputs do not go by",
        "detectors of rivals that outputs go by",
        (Row("ablation_rival", 0.0, _drops(_pairs(first, count), used=True, others=True)),),
    )


# Which stimuli drive a filter.


class Blind:
    def receptive_fields(self, layers: Sequence[str], _image: Tensor) -> dict[str, None]:
        return dict.fromkeys(layers)


def driven(seed: int, lift: float) -> le.Capture:
    """Filters of noise; or filters that one token drives, and one stimulus of it most."""
    rows = random(STIMULI, TOKENS, seed=seed)
    if lift:
        rows += lift * OWN
        rows[torch.arange(TOKENS) * STIMULI // TOKENS, torch.arange(TOKENS)] = 10.0
    return le.Capture(0, (LAYER,), rendered(), activations={LAYER: rows}, network=Blind())


def of_exemplars() -> Trial:
    at = np.linspace(-8, 8, 8001)
    largest = float(np.trapezoid(at * STIMULI * norm.pdf(at) * norm.cdf(at) ** (STIMULI - 1), at))
    own, first = one_hot(torch.arange(TOKENS)).bool().numpy(), np.arange(TOKENS)

    def stimulus(values: Array) -> float:
        return float((values[0, :, 0] == first * STIMULI // TOKENS).mean())

    def token(values: Array) -> float:
        return float((values[0] == first[:, None]).mean())

    return Trial(
        lambda _: le.TopExemplarProbe(),
        partial(driven, lift=0.0),
        partial(driven, lift=2.0),
        "filters of noise",
        "filters for one token, by 2 standard deviations, and one stimulus at 10",
        (
            Row("filter_response", 0.0, 2.0 + (10 - 2) / (STIMULI // TOKENS), lambda values: mean(values[0][own])),
            Row("top_activation", largest, 10.0, lambda values: mean(values[0, :, 0])),
            Row("top_stimulus", 1 / STIMULI, 1.0, stimulus),
            Row("top_token", 1 / TOKENS, 1.0, token),
        ),
    )


# What drives a filter most of all images.


class Channels:
    """A network whose layer has a filter for each channel of the image, which says its mean; or says nothing."""

    def __init__(self, reach: float) -> None:
        self.reach = reach

    def respond(self, _layer: str, images: Tensor) -> Tensor:
        return self.reach * images[:, :, None, None].mean(dim=(4, 5))


def excited(_seed: int, reach: float) -> le.Capture:
    return le.Capture(0, (LAYER,), rendered(), network=Channels(reach))


def of_maxima() -> Trial:
    pixels = rendered().images.transpose(0, 1).flatten(1)
    means = rendered().images.mean(dim=(2, 3)).amax(dim=0)
    return Trial(
        lambda seed: le.MaximisationProbe(seed=seed),
        partial(excited, reach=0.0),
        partial(excited, reach=1.0),
        "silent filters",
        "filters that say the mean of a channel, on the default bank",
        (
            Row("maximising_activation", 0.0, float(pixels.amax(dim=1).mean())),
            Row("best_exemplar_activation", 0.0, float(means.mean())),
        ),
    )
