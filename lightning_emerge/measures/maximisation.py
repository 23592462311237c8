"""Activation maximisation: images that excite a filter as much as an image can.

Olah, Mordvintsev & Schubert (2017), *Feature visualization*, Distill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from lightning_emerge.measures.exemplars import pixel_range

Objective: TypeAlias = Callable[[Tensor], Tensor]
"""Maps images (image, channel, y, x) to the activations (image, filter) that are to become large; differentiable."""

# Torch declares no types for these.
_frequencies: Callable[[int], Tensor] = torch.fft.fftfreq  # pyright: ignore
_half_frequencies: Callable[[int], Tensor] = torch.fft.rfftfreq  # pyright: ignore
_to_waves: Callable[..., Tensor] = torch.fft.rfft2  # pyright: ignore
_from_waves: Callable[..., Tensor] = torch.fft.irfft2  # pyright: ignore
_eigen: Callable[[Tensor], tuple[Tensor, Tensor]] = torch.linalg.eigh  # pyright: ignore

_JITTER = 1 / 16
"""Shift either way, as a share of the image's side: 3 pixels of 48, 4 of 64."""
_ZOOM = 0.1
"""Change of scale either way."""
_TURN = torch.pi / 18
"""Rotation either way, 10 degrees."""
_CONTRASTS = (0.3, -0.3, 2.0, -2.0)
"""Of the noise that images begin as: the first that gives a way up. Below zero it is the noise's negative."""
_RATE, _MEMORY, _SLACK = 0.3, (0.9, 0.99), 0.1
"""Adam's learning rate at the first iteration, memories, and what it adds to a gradient's spread."""
_EDGE = 0.01
"""Nearest to an end of its range that a pixel of a bank's image is taken to be, since the ends are never reached."""


@dataclass(frozen=True)
class Palette:
    """The colours that a bank's pixels have.

    Attributes:
        low: (channel,), the smallest value of each channel.
        reach: (channel,), its largest less its smallest; 1 for a channel that is the same everywhere.
        centre: (channel,), the log odds of its mean between the two.
        root: (channel, channel), square root of the covariance of log odds between channels, on a scale where their
            mean variance is 1.
    """

    low: Tensor
    reach: Tensor
    centre: Tensor
    root: Tensor


def find_palette(images: Float[Tensor, "stimulus channel y x"]) -> Palette:
    """Finds the range of each channel, its mean, and how channels vary together.

    Args:
        images: in any normalisation.
    """
    images = images.detach().cpu().double()
    low, reach = pixel_range(images)
    pixels = (images.transpose(0, 1).flatten(1) - low[:, None]) / reach[:, None]
    variances, directions = _eigen(torch.cov(pixels, correction=0).reshape(len(low), len(low)))
    if variances[-1] <= 0:
        variances = torch.ones_like(variances)
    # A colour that the bank lacks is hard to reach, not out of reach.
    variances = variances.clamp(min=0.01 * variances[-1].item())
    root = directions @ torch.diag((variances / variances.mean()).sqrt()) @ directions.T
    centre = pixels.mean(dim=1).logit(_EDGE)
    return Palette(*(tensor.float() for tensor in (low, reach, centre, root)))


@dataclass(frozen=True)
class Maximised:
    """What is found for each filter.

    Attributes:
        images: (filter, channel, y, x), normalised like the bank.
        activations: (filter,), what its own image reaches, without a transform.
        begun: (filter,), 0 if its image began as noise, 1 if as its exemplar; NaN if no start has a gradient, so that
            it is the exemplar still.
    """

    images: Tensor
    activations: Tensor
    begun: Tensor


def maximise(
    respond: Objective,
    exemplars: Float[Tensor, "filter channel y x"],
    palette: Palette,
    *,
    iterations: int = 64,
    seed: int = 0,
) -> Maximised:
    """Seeks for each filter an image that excites it as much as an image can, all in one batch.

    An image is a sum of waves, squashed into the range of the bank. Sought are the waves' amplitudes, on a scale that
    falls as one over their frequency, in colours that vary independently in the bank. At each iteration all images are
    shifted, scaled and turned alike before the network gets them, so that only what survives this is kept. Filters do
    not affect each other, and all begin as the same noise, or its negative; one that noise does not excite begins
    as its exemplar. Images are made on the CPU, so that they are the same on every device but for rounding.

    Args:
        respond: images to activations.
        exemplars: of each filter the image that excites it most, normalised as the network gets its images.
        palette: the colours of the bank.
        iterations: steps of gradient ascent, at least 1.
        seed: of the noise and of the transforms.

    Raises:
        ValueError: if there is no iteration.
    """
    if iterations < 1:
        raise ValueError(f"Maximising takes at least 1 iteration; got {iterations}.")
    random = torch.Generator().manual_seed(seed)
    size = (exemplars.shape[-2], exemplars.shape[-1])
    waves = _Waves(palette, size)
    amplitudes, begun = _start(respond, waves, exemplars, random)
    movable = begun.isfinite().nonzero()[:, 0]
    risen = amplitudes.clone()
    if len(movable):
        grids = _transforms(size, iterations, random)
        risen[movable] = _ascend(respond, waves, amplitudes[movable], movable, grids)
    with torch.no_grad():
        starts, ends = waves.images(amplitudes), waves.images(risen)
        before, after = (respond(images).diagonal().float().cpu() for images in (starts, ends))
    # A step may leave all that excites a rectified filter, and then there is no way back.
    lost = before > after
    images = torch.where(lost[:, None, None, None], starts, ends)
    return Maximised(images, torch.where(lost, before, after), begun)


def _ascend(respond: Objective, waves: _Waves, amplitudes: Tensor, filters: Tensor, grids: Sequence[Tensor]) -> Tensor:
    """Takes Adam's steps along gradients whose sizes do not matter, each shorter than the one before."""
    first, second = torch.zeros_like(amplitudes), torch.zeros_like(amplitudes)
    for number, grid in enumerate(grids, start=1):
        gradient = _gradient(respond, waves, amplitudes, filters, grid)
        first.lerp_(gradient, 1 - _MEMORY[0])
        second.lerp_(gradient.square(), 1 - _MEMORY[1])
        spread = (second / (1 - _MEMORY[1] ** number)).sqrt_().add_(_SLACK)
        rate = _RATE * (1 - (number - 1) / len(grids)) / (1 - _MEMORY[0] ** number)
        amplitudes = torch.addcdiv(amplitudes, first, spread, value=rate)
    return amplitudes


class _Waves:
    """Turns amplitudes (image, channel, y, x, 2) of waves into images and back."""

    def __init__(self, palette: Palette, size: tuple[int, int]) -> None:
        self.palette, self.size = palette, size
        down, across = _frequencies(size[0])[:, None], _half_frequencies(size[1])[None]
        lowest = 1 / max(size)
        scale = 1 / (down.square() + across.square()).sqrt().clamp(min=lowest)
        # White amplitudes give an image whose log odds vary about as much as they do.
        self.scale = (scale / (2 * scale.square().mean().sqrt()))[..., None]
        self.shape = (len(palette.low), *scale.shape, 2)

    def images(self, amplitudes: Tensor) -> Tensor:
        spectrum = torch.view_as_complex(amplitudes * self.scale)
        plain = _from_waves(spectrum, s=self.size, norm="ortho")
        palette = self.palette
        odds = torch.einsum("dc,ncyx->ndyx", palette.root, plain) + palette.centre[:, None, None]
        return palette.low[:, None, None] + palette.reach[:, None, None] * odds.sigmoid()

    def amplitudes(self, images: Tensor) -> Tensor:
        palette = self.palette
        shares = (images.detach().cpu().float() - palette.low[:, None, None]) / palette.reach[:, None, None]
        odds = shares.logit(_EDGE) - palette.centre[:, None, None]
        plain = torch.einsum("dc,ncyx->ndyx", palette.root.inverse(), odds)
        return torch.view_as_real(_to_waves(plain, norm="ortho")) / self.scale


def _start(respond: Objective, waves: _Waves, exemplars: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Finds for each filter the first start from which there is a way up, and whether it is noise or the exemplar."""
    noise = torch.randn(waves.shape, generator=random)
    starts = [(contrast * noise).expand(len(exemplars), *waves.shape) for contrast in _CONTRASTS]
    starts.append(waves.amplitudes(exemplars))
    chosen, begun = torch.empty_like(starts[-1]), torch.full((len(exemplars),), torch.nan)
    for number, start in enumerate(starts):
        left = begun.isnan().nonzero()[:, 0]
        if not len(left):
            break
        chosen[left] = start[left]
        rises = _gradient(respond, waves, start[left], left).flatten(1).any(dim=1)
        begun[left[rises]] = float(number == len(_CONTRASTS))
    return chosen, begun


def _gradient(
    respond: Objective, waves: _Waves, amplitudes: Tensor, filters: Tensor, grid: Tensor | None = None
) -> Tensor:
    """Gradient of each filter's activation by the amplitudes of its image, at a mean square of 1, or zero."""
    amplitudes = amplitudes.detach().requires_grad_()
    images = waves.images(amplitudes)
    activations = respond(images if grid is None else _sample(images, grid))
    own = activations.gather(1, filters.to(activations.device)[:, None])
    (gradient,) = torch.autograd.grad(own.sum(), amplitudes)
    gradient = gradient.nan_to_num(0, 0, 0)
    gradient = gradient / _not_zero(gradient.abs().amax(dim=(1, 2, 3, 4), keepdim=True))  # its square may be too small
    return gradient / _not_zero(gradient.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt())


def _not_zero(sizes: Tensor) -> Tensor:
    return torch.where(sizes > 0, sizes, 1)


def _transforms(size: tuple[int, int], iterations: int, random: torch.Generator) -> list[Tensor]:
    """Samples the places (1, y, x, 2) at which each iteration reads the images: shifted, scaled and turned."""
    sampled = torch.rand(iterations, 4, generator=random) * 2 - 1
    zoom, turn = 1 + _ZOOM * sampled[:, 0], _TURN * sampled[:, 1]
    right, down = (2 * _JITTER * sampled[:, 2:]).T
    cosine, sine = zoom * turn.cos(), zoom * turn.sin()
    matrices = torch.stack([cosine, -sine, right, sine, cosine, down], dim=1).reshape(-1, 1, 2, 3)
    return [affine_grid(matrix, [1, 1, *size], align_corners=False) for matrix in matrices]


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    # All images are read at the same places, so they pass as the channels of one.
    rows = images.flatten(0, 1)[None]
    sampled = grid_sample(rows, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return sampled.reshape(images.shape)
