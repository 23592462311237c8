"""GradientNoiseProbe: how much of each layer's gradient is signal, and how much differs from stimulus to stimulus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch

from lightning_emerge.capture.needs import GradientSquares, TokenGradients
from lightning_emerge.measures.gradient_noise import gradient_noise, noise_scale
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record

_GSNR = Record(
    "gsnr",
    ("layer",),
    about="Mean over weights of the squared mean gradient over the variance of single stimuli's, unbiased parts",
)
_SIGNAL = Record(
    "gradient_signal",
    ("layer",),
    "squared L2 norm",
    about="Unbiased estimate of the true mean gradient's squared norm; below zero where noise hides it",
)
_VARIANCE = Record(
    "gradient_variance",
    ("layer",),
    "squared L2 norm",
    (0, None),
    about="Variance of the gradient of a single stimulus, summed over weights",
)
_SCALE = Record(
    "noise_scale",
    ("layer",),
    "number of stimuli",
    (0, None),
    about="Variance of a single stimulus' gradient over the true mean's square; NaN where noise hides the latter",
)
_TOTAL = Record("noise_scale_total", (), "number of stimuli", (0, None), about="The same of all layers together")


@final
class GradientNoiseProbe(Probe):
    """Measures the gradients of single stimuli of the bank against their mean.

    It asks for the gradient of each stimulus by itself, so its layers are linear maps and ordinary convolutions, and a
    look costs several passes of the bank.

    Records `gsnr`, `gradient_signal`, `gradient_variance` and `noise_scale` (layer), and `noise_scale_total` of all its
    layers together.
    """

    needs: ClassVar = (TokenGradients(), GradientSquares())
    records: ClassVar = (_GSNR, _SIGNAL, _VARIANCE, _SCALE, _TOTAL)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank, means, squares = capture.bank, capture.token_gradients, capture.gradient_squares
        assert bank is not None
        counts = torch.bincount(bank.labels, minlength=len(bank.tokens))
        noises = [gradient_noise(means[k], squares[k], counts.to(means[k].device)) for k in capture.layers]
        signals, variances = (torch.stack([getattr(n, part) for n in noises]) for part in ("signal", "variance"))
        scales = torch.stack([noise_scale(noise.signal, noise.variance) for noise in noises])
        total = noise_scale(signals.sum(), variances.sum())
        layers = Axis("layer", capture.layers)
        yield _GSNR.of(torch.stack([noise.gsnr for noise in noises]), layers)
        yield _SIGNAL.of(signals, layers)
        yield _VARIANCE.of(variances, layers)
        yield _SCALE.of(scales, layers)
        yield _TOTAL.of(total)
