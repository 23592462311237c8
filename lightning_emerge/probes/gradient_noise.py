"""GradientNoiseProbe: how much of each layer's gradient is signal, and how much differs from stimulus to stimulus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch

from lightning_emerge.measures.gradient_noise import gradient_noise, noise_scale
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, to_array


@final
class GradientNoiseProbe(Probe):
    """Measures the gradients of single stimuli of the bank against their mean.

    It asks for the gradient of each stimulus by itself, so its layers are linear maps and ordinary convolutions, and a
    look costs several passes of the bank.

    Records `gsnr`, `gradient_signal`, `gradient_variance` and `noise_scale` (layer), and `noise_scale_total` of all its
    layers together.
    """

    needs: ClassVar = Needs(token_gradients=True, gradient_squares=True)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank, means, squares = capture.bank, capture.token_gradients, capture.gradient_squares
        assert bank is not None
        counts = torch.bincount(bank.labels, minlength=len(bank.tokens))
        noises = [gradient_noise(means[k], squares[k], counts.to(means[k].device)) for k in capture.layers]
        signals, variances = (torch.stack([getattr(n, part) for n in noises]) for part in ("signal", "variance"))
        scales = torch.stack([noise_scale(noise.signal, noise.variance) for noise in noises])
        total = noise_scale(signals.sum(), variances.sum())
        layers = (Axis("layer", capture.layers),)
        for name, values, axes, unit, about in (
            (
                "gsnr",
                torch.stack([noise.gsnr for noise in noises]),
                layers,
                "1",
                "Mean over weights of the squared mean gradient over the variance of single stimuli's, unbiased parts",
            ),
            (
                "gradient_signal",
                signals,
                layers,
                "squared L2 norm",
                "Unbiased estimate of the true mean gradient's squared norm; below zero where noise hides it",
            ),
            (
                "gradient_variance",
                variances,
                layers,
                "squared L2 norm",
                "Variance of the gradient of a single stimulus, summed over weights",
            ),
            (
                "noise_scale",
                scales,
                layers,
                "number of stimuli",
                "Variance of a single stimulus' gradient over the true mean's square; NaN where noise hides the latter",
            ),
            ("noise_scale_total", total, (), "number of stimuli", "The same of all layers together"),
        ):
            yield Measurement(name, to_array(values), axes, capture.step, unit, type(self).__name__, about)
