"""GradientProbe: what pulls at each layer's weights, and how far they give way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch

from lightning_emerge.measures.gradients import BIN_EDGES, magnitude_histogram, norm, update_ratio
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, to_array


@final
class GradientProbe(Probe):
    """Measures the training batch's gradient, and the update it led to, by layer.

    The gradient at step k is the one that the (k + 1)-th update is made from: of the whole batch (accumulated, averaged
    over processes), unscaled, before clipping. The last step has none, as no update follows it.

    Records `gradient_norm` and `update_ratio` (layer), and `gradient_magnitude` (layer, bin).
    """

    needs: ClassVar = Needs(training=True)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        layers = Axis("layer", capture.layers)
        gradients = capture.gradients
        norms = torch.stack([norm(gradient) for gradient in gradients.values()])
        ratios = torch.stack([update_ratio(capture.updates[layer], capture.weights[layer]) for layer in capture.layers])
        counts = torch.stack([magnitude_histogram(gradient) for gradient in gradients.values()])
        source = type(self).__name__
        yield Measurement(
            "gradient_norm",
            to_array(norms),
            (layers,),
            capture.step,
            "L2 norm before clipping",
            source,
            "Norm of the gradient of the training batch's loss with respect to the layer's weight",
        )
        yield Measurement(
            "update_ratio",
            to_array(ratios),
            (layers,),
            capture.step,
            "1",
            source,
            "Norm of the update that followed over the norm of the layer's weight",
        )
        yield Measurement(
            "gradient_magnitude",
            to_array(counts),
            (layers, Axis("bin", BIN_EDGES[:-1], "log10 of the gradient's magnitude, lower edge")),
            capture.step,
            "number of weights",
            source,
            "Histogram of the gradient's entries; the first bin also holds all smaller ones, the last all larger",
        )
